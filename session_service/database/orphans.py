"""What PostgreSQL knows of workloads that a platform has. DatabaseUnavailableError may come from each method."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries
from session_service.errors import SchemaError


class KnownWorkload(msgspec.Struct, frozen=True):
    """A workload that a row or a teardown will see to. ``uid`` None: whatever stands under this simulator's id."""

    simulator_id: str
    uid: str | None


class HeldOrphan(msgspec.Struct, frozen=True):
    """A workload that nobody knows of and that is not removed unless somebody confirms it."""

    simulator_id: str
    uid: str
    session_id: str
    endpoint: str | None


class OrphanRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def database_id(self) -> str:
        """What this database's own workloads are labelled with. Raises SchemaError where it was never migrated."""
        record = await self._postgres.fetch_row(
            self._queries["installation.get"], operation="get_installation", repeatable=True
        )
        if record is None:
            raise SchemaError("session.installation is empty: run `session-service migrate`")
        database_id: str = record["database_id"]
        return database_id

    async def known(self, simulator_ids: Sequence[str]) -> list[KnownWorkload]:
        records = await self._postgres.fetch(
            self._queries["orphans.known"], simulator_ids, operation="list_known_workloads", repeatable=True
        )
        return [KnownWorkload(record["simulator_id"], record["workload_uid"]) for record in records]

    async def hold(self, orphans: Sequence[HeldOrphan]) -> set[tuple[str, str]]:
        """Put these in place of what was held; simulator id and uid of those that somebody has confirmed."""
        records = await self._postgres.fetch(
            self._queries["orphans.hold"],
            [orphan.simulator_id for orphan in orphans],
            [orphan.uid for orphan in orphans],
            [orphan.session_id for orphan in orphans],
            [orphan.endpoint for orphan in orphans],
            operation="hold_orphans",
            repeatable=True,
        )
        return {(record["confirmed_simulator_id"], record["confirmed_workload_uid"]) for record in records}

    async def count_held(self) -> int:
        """How many wait for somebody's word."""
        count: int = await self._postgres.fetch_value(
            self._queries["orphans.count_held"], operation="count_held_orphans", repeatable=True
        )
        return count
