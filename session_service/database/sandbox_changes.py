"""Changes of ``public.session`` between two snapshots. DatabaseUnavailableError may come from each method."""

from __future__ import annotations

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries
from session_service.domain.change_position import ChangePosition
from session_service.domain.sandbox_change import SandboxChange
from session_service.domain.snapshot import Snapshot
from session_service.errors import DatabaseUnavailableError, SchemaError


class SandboxChangeRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def look(self) -> ChangePosition:
        """Where changes have come to by now; a standby cannot say."""
        record = await self._postgres.fetch_row(
            self._queries["sandbox_changes.look"], operation="look_at_sandbox_changes", repeatable=True
        )
        if record is None:
            raise SchemaError("session.installation is empty: run `session-service migrate`")
        if record["origin"] is None:
            raise DatabaseUnavailableError
        return ChangePosition(record["origin"], record["at_s"], Snapshot.parse(record["snapshot"]))

    async def between(self, since: Snapshot, until: Snapshot, limit: int) -> list[SandboxChange] | None:
        """What ``until`` sees and ``since`` does not, by transaction; None where it is more than ``limit`` rows.

        Each row once, with the last change that ``until`` sees; one that was changed after ``until`` is not in it.
        """
        records = await self._postgres.fetch(
            self._queries["sandbox_changes.between"],
            since.xmax,
            since.in_progress,
            until.xmax,
            str(until),
            limit + 1,
            operation="list_sandbox_changes",
            repeatable=True,
        )
        if len(records) > limit:
            return None
        return [SandboxChange(r["id"], r["inbox_status"], r["removed"], r["changed_in"]) for r in records]
