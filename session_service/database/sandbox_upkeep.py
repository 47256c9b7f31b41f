"""The order of sandboxes' table, and its measures. DatabaseUnavailableError may come from each method."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries

# What measuring costs is the same on any table: some 4 ms for each status, and 8 MB that are read.
COUNTED_AT_MOST = 10_000
SAMPLED_PAGES = 1000


class Guarded(msgspec.Struct, frozen=True):
    """``ended``: transactions that took too long, ``put_back``: roles that had changed themselves; how many."""

    ended: int
    put_back: int


class SandboxMeasures(msgspec.Struct, frozen=True):
    """``sessions`` by status, ``connections`` by kind of role. ``oldest_pending_s``: 0 where nothing waits."""

    database_bytes: int
    table_bytes: int
    slow_queries: int
    oldest_pending_s: float
    sessions: dict[str, int]
    connections: dict[str, int]


class SandboxUpkeepRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def guard(self, longest_transaction_s: float) -> Guarded:
        record = await self._postgres.fetch_row(
            self._queries["sandbox_upkeep.guard"], longest_transaction_s, operation="guard_sandboxes", repeatable=True
        )
        assert record is not None  # noqa: S101 - the function returns one row, always
        return Guarded(record["ended"], record["put_back"])

    async def delete_completed(self, older_than_days: int, limit: int) -> int:
        """Delete at most ``limit`` of the oldest completed sessions; returns how many."""
        deleted: int = await self._postgres.fetch_value(
            self._queries["sandbox_upkeep.delete_completed"],
            older_than_days,
            limit,
            operation="delete_completed_sandbox_sessions",
        )
        return deleted

    async def measure(self) -> SandboxMeasures:
        record = await self._postgres.fetch_row(
            self._queries["sandbox_upkeep.measure"], operation="measure_sandboxes", repeatable=True
        )
        assert record is not None  # noqa: S101 - each of the views has one row, always
        connections = await self._postgres.fetch(
            self._queries["sandbox_upkeep.connections"], operation="count_sandbox_connections", repeatable=True
        )
        return SandboxMeasures(
            database_bytes=record["database_bytes"],
            table_bytes=record["table_bytes"],
            slow_queries=record["slow_queries"],
            oldest_pending_s=record["oldest_pending_s"],
            sessions=await self._sessions(record["pages"]),
            connections={row["role"]: row["connections"] for row in connections},
        )

    async def _sessions(self, pages: int) -> dict[str, int]:
        counted = await self._postgres.fetch(
            self._queries["sandbox_upkeep.count"],
            COUNTED_AT_MOST,
            operation="count_sandbox_sessions",
            repeatable=True,
        )
        percent = 100.0 * min(1.0, SAMPLED_PAGES / max(pages, 1))
        sampled = await self._postgres.fetch(
            self._queries["sandbox_upkeep.sample"], percent, operation="sample_sandbox_sessions", repeatable=True
        )
        return sessions_by_status(
            {row["status"]: row["sessions"] for row in counted},
            {row["status"]: row["sessions"] for row in sampled},
            percent,
        )


def sessions_by_status(counted: Mapping[str, int], sampled: Mapping[str, int], percent: float) -> dict[str, int]:
    """Exact where fewer than ``COUNTED_AT_MOST`` were ``counted``, or all of the table was ``sampled``; else
    estimated from the ``percent`` of it that was.
    """
    estimated = {status: round(number * 100 / percent) for status, number in sampled.items()}
    return {"none": estimated.get("none", 0)} | {
        status: number if number < COUNTED_AT_MOST else max(number, estimated.get(status, 0))
        for status, number in counted.items()
    }
