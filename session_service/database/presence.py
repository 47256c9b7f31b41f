"""What Redis shows of pods and sessions, for others; no answer is read from it (docs/operations.md#redis)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from session_service.database.redis import Redis
from session_service.domain.session import Session

ACTIVE_PODS = "active_pods"
_BATCH = 200
_WAITING_LIMIT = 10_000  # sessions whose hash waits for Redis; past it they are not shown


class PodPresence:
    """Writes ``pod:{name}``, ``active_pods`` and ``session:{id}``. Every write is best effort."""

    def __init__(self, redis: Redis, pod_name: str, *, lease_s: float) -> None:
        self._redis = redis
        self._pod_name = pod_name
        self._ttl_s = max(1, round(3 * lease_s))
        self._waiting: dict[str, Session | None] = {}

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

    def show(self, session: Session) -> None:
        """Write the session's hash with the next ``flush``."""
        self._put(session.session_id, session)

    def hide(self, session_id: str) -> None:
        """Remove the session's hash with the next ``flush``."""
        self._put(session_id, None)

    async def flush(self) -> None:
        """Carry what waits to Redis, a batch per round trip; what Redis does not take runs out by its TTL."""
        while self._waiting:
            keys = list(self._waiting)[:_BATCH]
            batch = {key: self._waiting.pop(key) for key in keys}

            async def send(client: Any, batch: dict[str, Session | None] = batch) -> None:
                pipeline = client.pipeline(transaction=False)
                for session_id, session in batch.items():
                    key = f"session:{session_id}"
                    if session is None:
                        pipeline.delete(key)
                    else:
                        pipeline.hset(key, mapping=_shown(session))
                        pipeline.expire(key, max(1, round(session.expires_at.timestamp() - time.time())))
                await pipeline.execute()

            await self._redis.attempt(send, None)

    def _put(self, session_id: str, session: Session | None) -> None:
        if len(self._waiting) < _WAITING_LIMIT or session_id in self._waiting:
            self._waiting[session_id] = session


def _shown(session: Session) -> dict[str, str]:
    return {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "device_id": session.device_id or "",
        "status": session.status.value,
        "pod_name": str(session.metadata.get("pod_name", "")),
        "expires_at": session.expires_at.isoformat(),
    }
