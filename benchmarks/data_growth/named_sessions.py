"""Named sessions: making one, asking for the active one past the cache, and switching to another."""

from __future__ import annotations

import itertools
import random
from typing import Any

import asyncpg

from benchmarks.data_growth.timing import median_us
from session_service.database.sql_files import Queries

CALLS = 30  # of each operation in a round
SESSIONS_PER_USER = 10

SEED = """
SET LOCAL session_replication_role = replica;
INSERT INTO public.sessions (user_id, title, active)
    SELECT user_id, 'session ' || number, number = 1
    FROM generate_series(1, {users}) user_id, generate_series(1, {sessions_per_user}) number;
INSERT INTO session.named_session_users (user_id) SELECT generate_series(1, {users});
"""


class NamedSessions:
    """One database's, ten of each user."""

    def __init__(self, connection: asyncpg.Connection[Any], queries: Queries) -> None:
        self._connection = connection
        self._queries = queries
        self._numbers = itertools.count()
        self._users: list[int] = []

    async def seed(self, rows: int) -> None:
        users = rows // SESSIONS_PER_USER
        async with self._connection.transaction():
            await self._connection.execute(SEED.format(users=users, sessions_per_user=SESSIONS_PER_USER))

    async def draw(self, size: int) -> None:
        records = await self._connection.fetch(
            "SELECT user_id FROM session.named_session_users ORDER BY random() LIMIT $1", size
        )
        self._users = [record["user_id"] for record in records]

    async def round(self) -> dict[str, float]:
        """Microseconds of each operation. What a round makes it also removes, so that the rows stay as many."""
        some = random.sample(self._users, CALLS)
        title = f"new {next(self._numbers)}"

        async def create(user_id: int) -> None:
            await self._connection.fetchrow(self._queries["named_sessions.create"], user_id, title)

        async def switch(user_id: int) -> None:
            assert await self._connection.fetchrow(self._queries["named_sessions.activate"], user_id, "session 2")

        async def delete(user_id: int) -> None:
            assert (
                await self._connection.fetchval(self._queries["named_sessions.delete"], user_id, title) == "deleted"
            )

        return {
            "active": await median_us(self._active, some),
            "list": await median_us(self._list, some),
            "create": await median_us(create, some),
            "switch": await median_us(switch, some),
            "delete": await median_us(delete, some),
        }

    async def _active(self, user_id: int) -> None:
        assert await self._connection.fetchrow(self._queries["named_sessions.active"], [user_id])

    async def _list(self, user_id: int) -> None:
        assert await self._connection.fetch(self._queries["named_sessions.list"], user_id)
