"""What Redis shows of pods and sessions, for others to read: never read by us for an answer (interface.md §11)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from session_service.database.redis import Redis
from session_service.domain.session import Session

ACTIVE_PODS = "active_pods"


class PodPresence:
    """Writes ``pod:{name}``, ``active_pods`` and ``session:{id}``. Every write is best effort."""

    def __init__(self, redis: Redis, pod_name: str, *, lease_s: float) -> None:
        self._redis = redis
        self._pod_name = pod_name
        self._ttl_s = max(1, round(3 * lease_s))

    async def announce(self, fields: Mapping[str, str | int]) -> None:
        """Renew this pod's hash and its place in the set."""

        async def send(client: Any) -> None:
            key = f"pod:{self._pod_name}"
            pipeline = client.pipeline(transaction=False)
            pipeline.hset(key, mapping={**fields, "pod_name": self._pod_name, "last_seen": int(time.time())})
            pipeline.expire(key, self._ttl_s)
            pipeline.sadd(ACTIVE_PODS, self._pod_name)
            await pipeline.execute()

        await self._redis.attempt(send, None)

    async def withdraw(self) -> None:
        async def send(client: Any) -> None:
            pipeline = client.pipeline(transaction=False)
            pipeline.delete(f"pod:{self._pod_name}")
            pipeline.srem(ACTIVE_PODS, self._pod_name)
            await pipeline.execute()

        await self._redis.attempt(send, None)

    async def show_session(self, session: Session) -> None:
        async def send(client: Any) -> None:
            key = f"session:{session.session_id}"
            ttl_s = max(1, round(session.expires_at.timestamp() - time.time()))
            pipeline = client.pipeline(transaction=False)
            pipeline.hset(
                key,
                mapping={
                    "session_id": session.session_id,
                    "user_id": session.user_id,
                    "device_id": session.device_id or "",
                    "status": session.status.value,
                    "pod_name": str(session.metadata.get("pod_name", "")),
                    "expires_at": session.expires_at.isoformat(),
                },
            )
            pipeline.expire(key, ttl_s)
            await pipeline.execute()

        await self._redis.attempt(send, None)

    async def hide_session(self, session_id: str) -> None:
        async def send(client: Any) -> None:
            await client.delete(f"session:{session_id}")

        await self._redis.attempt(send, None)
