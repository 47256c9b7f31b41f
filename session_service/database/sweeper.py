"""The sweeper's lease: which pod makes the rounds that are made once for all pods."""

from __future__ import annotations

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries


class SweeperRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def hold(self, pod_id: str, lease_s: float) -> bool:
        """Renew or take the lease. False: another pod holds it, or this one drains beside a live one, or has no row.

        Raises DatabaseUnavailableError.
        """
        held: bool | None = await self._postgres.fetch_value(
            self._queries["sweeper.hold"], pod_id, lease_s, operation="hold_sweeper", repeatable=True
        )
        return held is True
