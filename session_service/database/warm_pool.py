"""Rows of spares: simulators without a session yet. Every method is one statement; DatabaseUnavailableError may come
from each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries


class SpareStatus(StrEnum):
    CREATING = "CREATING"  # the row is written, its workload is not known to be ready
    READY = "READY"  # whoever starts a simulator may take it


class Spare(msgspec.Struct, frozen=True):
    """One row of ``simulator.warm_pool``. ``create_is_open``: a create that was sent may still take effect."""

    simulator_id: str
    status: SpareStatus
    workload_uid: str | None
    create_is_open: bool
    age_s: float


class ReservedSpare(msgspec.Struct, frozen=True):
    """A spare whose workload may be created. ``until``, ``database_id``: as of a Creation."""

    simulator_id: str
    until: datetime
    database_id: str


class WarmPoolRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def trim(self, recipe: str, size: int) -> list[str]:
        """Give up what is of another recipe, or more than ``size``; ids of those that this call gave up."""
        records = await self._postgres.fetch(
            self._queries["spares.trim"], recipe, size, operation="trim_warm_pool", repeatable=True
        )
        return [record["simulator_id"] for record in records]

    async def all(self) -> list[Spare]:
        """The oldest first."""
        records = await self._postgres.fetch(self._queries["spares.all"], operation="list_warm_pool", repeatable=True)
        return [
            Spare(
                simulator_id=record["simulator_id"],
                status=SpareStatus(record["status"]),
                workload_uid=record["workload_uid"],
                create_is_open=record["create_is_open"],
                age_s=record["age_s"],
            )
            for record in records
        ]

    async def reserve(
        self,
        pod_id: str,
        simulator_ids: Sequence[str],
        recipe: str,
        size: int,
        *,
        within_s: float,
        limit: int,
        slot_s: float,
    ) -> list[ReservedSpare]:
        """Rows for spares that are missing, under as many of these ids as there is room for.

        A create that takes effect does so ``within_s`` of this. ``limit``, ``slot_s``: of the start queue, whose
        slots spares take only where no user waits for one.
        """
        records = await self._postgres.fetch(
            self._queries["spares.reserve"],
            pod_id,
            simulator_ids,
            recipe,
            size,
            timedelta(seconds=within_s),
            limit,
            timedelta(seconds=slot_s),
            operation="reserve_spares",
            repeatable=True,
        )
        return [
            ReservedSpare(record["simulator_id"], record["create_until"], record["database_id"]) for record in records
        ]

    async def recorded(
        self, simulator_id: str, uid: str, endpoint: str | None, answered: datetime | None = None
    ) -> bool:
        """Its workload is there, ready where it has an endpoint. False: it is no spare any more, or another's.

        ``answered``: the ``until`` of the create that made it, where no other one is under way.
        """
        recorded: bool | None = await self._postgres.fetch_value(
            self._queries["spares.recorded"],
            simulator_id,
            uid,
            endpoint,
            answered,
            operation="record_spare",
            repeatable=True,
        )
        return recorded is True

    async def remove(self, simulator_id: str, seen: SpareStatus) -> bool:
        """Give it up where it stands as it was seen; its workload goes to the teardowns. True: this call did it."""
        removed: bool | None = await self._postgres.fetch_value(
            self._queries["spares.remove"], simulator_id, seen.value, operation="remove_spare"
        )
        return removed is True

    async def counts(self) -> dict[SpareStatus, int]:
        """How many there are of each status; of every status."""
        records = await self._postgres.fetch(self._queries["spares.count"], operation="count_spares", repeatable=True)
        found = {SpareStatus(record["status"]): record["count"] for record in records}
        return {status: found.get(status, 0) for status in SpareStatus}
