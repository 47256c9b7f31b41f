"""Live sessions: making one, finding it for a request, extending it, and removing those that have run out."""

from __future__ import annotations

import itertools
import random
import uuid
from typing import Any

import asyncpg

from benchmarks.data_growth.timing import median_us
from session_service.database.sql_files import Queries

CALLS = 30  # of each operation in a round
RUN_OUT = 100  # sessions that expire and are removed together, in one call each
LIMIT_PER_USER = 10
TIMEOUT_S = 3600.0

# The rows as session.open_session leaves them. Triggers are off: an ownership is made beside, not row by row.
SEED = """
SET LOCAL session_replication_role = replica;
CREATE TEMPORARY TABLE seeded ON COMMIT DROP AS
    SELECT gen_random_uuid()::text AS session_id, 'user-' || n AS user_id FROM generate_series(1, {rows}) n;
INSERT INTO session.active_sessions (session_id, user_id, status, expires_at, device_id)
    SELECT session_id, user_id, 'ACTIVE', now() + interval '1 day', 'device' FROM seeded;
INSERT INTO session.session_metadata (session_id, metadata)
    SELECT session_id, jsonb_build_object(
        'pod_name', 'pod', 'device_id', 'device', 'ip_address', '127.0.0.1', 'reconnect_count', 0,
        'frontend_connections', 0, 'sse_connections', 0, 'connection_quality', 'GOOD') FROM seeded;
INSERT INTO session.ownership (session_id) SELECT session_id FROM seeded;
"""


class LiveSessions:
    """One database's. ``sample``: as many of its sessions as are looked at, drawn from all of them."""

    def __init__(self, connection: asyncpg.Connection[Any], queries: Queries) -> None:
        self._connection = connection
        self._queries = queries
        self._new = itertools.count()
        self._sample: list[tuple[str, str]] = []

    async def seed(self, rows: int) -> None:
        async with self._connection.transaction():
            await self._connection.execute(SEED.format(rows=rows))

    async def draw(self, size: int) -> None:
        records = await self._connection.fetch(
            "SELECT session_id, user_id FROM session.active_sessions ORDER BY random() LIMIT $1", size
        )
        self._sample = [(record["session_id"], record["user_id"]) for record in records]

    async def round(self) -> dict[str, float]:
        """Microseconds of each operation. What a round makes it also removes, so that the rows stay as many."""
        some = random.sample(self._sample, CALLS)
        new = [f"new-{next(self._new)}" for _ in range(RUN_OUT)]
        times_us = {
            "create": await median_us(self._create, new),
            "validate": await median_us(self._get, some),
            "find by device": await median_us(self._find, some),
            "keepalive": await median_us(self._keepalive, some),
        }
        await self._connection.execute(
            "UPDATE session.active_sessions SET expires_at = clock_timestamp() WHERE user_id = ANY ($1)", new
        )
        times_us[f"expire {RUN_OUT}"] = await median_us(self._expire, [RUN_OUT])
        times_us[f"clean up {RUN_OUT}"] = await median_us(self._clean_up, [1000])
        return times_us

    async def _create(self, user_id: str) -> None:
        metadata = {"pod_name": "pod", "device_id": "device", "reconnect_count": 0, "connection_quality": "GOOD"}
        session_id = str(uuid.uuid4())
        await self._connection.fetchrow(
            self._queries["sessions.open"], session_id, user_id, "device", TIMEOUT_S, LIMIT_PER_USER, metadata, "pod"
        )

    async def _get(self, session: tuple[str, str]) -> None:
        await self._connection.fetchrow(self._queries["sessions.get"], *session)

    async def _find(self, session: tuple[str, str]) -> None:
        await self._connection.fetchrow(self._queries["sessions.find_by_device"], session[1], "device")

    async def _keepalive(self, session: tuple[str, str]) -> None:
        await self._connection.fetchrow(self._queries["sessions.keepalive"], *session, TIMEOUT_S)

    async def _expire(self, limit: int) -> None:
        expired = await self._connection.fetch(self._queries["sessions.expire"], limit)
        assert len(expired) == RUN_OUT, len(expired)

    async def _clean_up(self, limit: int) -> None:
        removed = await self._connection.fetchval(self._queries["sessions.cleanup"], limit)
        assert removed == RUN_OUT, removed
