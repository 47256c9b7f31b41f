"""The order of sandboxes' table, and its measures. DatabaseUnavailableError may come from each method."""

from __future__ import annotations

import msgspec

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries


class Guarded(msgspec.Struct, frozen=True):
    """``ended``: how many transactions that took too long; ``put_back``: how many roles that had changed themselves."""

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

    async def measure(self, count_limit: int) -> SandboxMeasures:
        """At most ``count_limit`` sessions are counted of each status."""
        counts = await self._postgres.fetch(
            self._queries["sandbox_upkeep.count"], count_limit, operation="count_sandbox_sessions", repeatable=True
        )
        connections = await self._postgres.fetch(
            self._queries["sandbox_upkeep.connections"], operation="count_sandbox_connections", repeatable=True
        )
        record = await self._postgres.fetch_row(
            self._queries["sandbox_upkeep.measure"], operation="measure_sandboxes", repeatable=True
        )
        assert record is not None  # noqa: S101 - each of the views has one row, always
        return SandboxMeasures(
            **record,
            sessions={row["status"]: row["sessions"] for row in counts},
            connections={row["role"]: row["connections"] for row in connections},
        )
