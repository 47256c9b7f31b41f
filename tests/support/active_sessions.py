"""What is active by PostgreSQL and by Redis, and whether the two agree."""

from __future__ import annotations

from typing import Any

import redis.asyncio as redis_asyncio

from session_service.named_sessions.cache import SETTLED_KEY, USER_KEY
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually

AT_REST_WITHIN_S = 5.0  # far above the second that is promised: tests share two cores
BROKEN_RULES = """
    SELECT user_id, 'active: ' || count(*) FILTER (WHERE active) AS broken FROM public.sessions
    GROUP BY user_id HAVING count(*) FILTER (WHERE active) <> 1
    UNION ALL
    SELECT user_id, 'twice: ' || title FROM public.sessions GROUP BY user_id, title HAVING count(*) > 1
"""


class ActiveSessions:
    def __init__(self, sql: Sql, redis: redis_asyncio.Redis) -> None:
        self._sql = sql
        self._redis = redis

    async def of(self, user_id: int) -> str | None:
        """By PostgreSQL."""
        found = await self._sql.fetchval(
            "SELECT id::text FROM public.sessions WHERE user_id = $1 AND active", user_id
        )
        return None if found is None else str(found)

    async def cached(self, user_id: int) -> str | None:
        """By Redis."""
        return await self.entry(USER_KEY.format(user_id))

    async def entry(self, key: str) -> str | None:
        """The text at ``key``."""
        value = await self._redis.get(key)
        return value.decode() if isinstance(value, bytes) else value

    async def mark(self) -> str:
        """What the contents are marked with."""
        mark = await self.entry(SETTLED_KEY)
        assert mark is not None
        return mark

    async def disagreements(self) -> list[tuple[str, Any, Any]]:
        """Every entry of Redis that is not what PostgreSQL says: key, entry, truth."""
        found = []
        async for key in self._redis.scan_iter(match=USER_KEY.format("*")):
            cached, true = await self._redis.get(key), await self.of(int(key.rpartition(":")[2]))
            if cached != true:
                found.append((key, cached, true))
        return found

    async def check_rules(self) -> None:
        """Every user with sessions has exactly one active, and each title once."""
        broken = await self._sql.fetch(BROKEN_RULES)
        assert not broken, broken

    async def come_to_rest(self) -> None:
        """The rules hold, and soon every entry of Redis is right."""
        await self.check_rules()

        async def agree() -> bool:
            return not await self.disagreements()

        await eventually(agree, within_s=AT_REST_WITHIN_S, what="entries that agree with PostgreSQL")

    async def is_believed(self, pod: Service) -> None:
        """Wait until the pod believes the cache."""

        async def believes() -> bool:
            return pod.server._named_sessions.believes_cache and await self._redis.get(SETTLED_KEY) is not None

        await eventually(believes, within_s=AT_REST_WITHIN_S, what="a pod that believes the cache")
