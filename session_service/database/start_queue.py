"""The start queue's rows (ADR 0025). Every method is one statement; DatabaseUnavailableError may come from each."""

from __future__ import annotations

from datetime import datetime

import msgspec

from session_service.database.postgres import Postgres
from session_service.database.records import simulator_of
from session_service.database.simulators import OwnedSimulator
from session_service.database.sql_files import Queries
from session_service.domain.simulator import Simulator
from session_service.domain.start_queue import SLOT_S


class Creation(msgspec.Struct, frozen=True):
    """A create that is recorded and may be sent. ``until``: when it can no more take effect, by PostgreSQL's clock.
    ``database_id``: what the workload is to be labelled with. ``queued_for_s``: how long it waited for the slot that
    this call gave; None where it had one.
    """

    until: datetime
    database_id: str
    queued_for_s: float | None


class Queued(msgspec.Struct, frozen=True):
    """No slot is free for it: nothing may be created. ``position``: 1 is next."""

    position: int


class WaitingSimulator(msgspec.Struct, frozen=True):
    """A row in the queue. ``position``: 1 is next. ``owner_pod_id``: whose reconciler creates it."""

    simulator: Simulator
    position: int
    owner_pod_id: str | None


class AdmittedSimulator(msgspec.Struct, frozen=True):
    """A row that has just got its slot. ``owner_pod_id``: whose reconciler creates it."""

    simulator: Simulator
    queued_for_s: float
    owner_pod_id: str | None


class WaitingCount(msgspec.Struct, frozen=True):
    """``waiting``: over all pods. ``own``: of the sessions that the asking pod owns."""

    waiting: int
    own: int


class StartQueueRepository:
    """``limit``: how many starts hold a slot at once, over all pods. ``slot_s``: how long one lasts."""

    def __init__(self, postgres: Postgres, queries: Queries, *, limit: int, slot_s: float = SLOT_S) -> None:
        self._postgres = postgres
        self._queries = queries
        self._limit = limit
        self._slot_s = slot_s

    async def begin_create(self, owned: OwnedSimulator, within_s: float) -> Creation | Queued | None:
        """Record that a create will be sent, and will have taken effect ``within_s`` of now or never; where that
        needs a slot that is not free, it waits in the queue from now on.

        None: it must not be sent, as of a transition that did not come about.
        """
        owner = owned.ownership
        record = await self._postgres.fetch_row(
            self._queries["start_queue.begin_create"],
            owned.simulator.simulator_id,
            owner.session_id,
            owner.pod_id,
            owner.epoch,
            within_s,
            self._limit,
            self._slot_s,
            operation="begin_create",
            repeatable=True,
        )
        if record is None:
            return None
        if record["queue_position"] is not None:
            return Queued(record["queue_position"])
        return Creation(record["until"], record["database_id"], record["queued_for_s"])

    async def admit(self) -> list[AdmittedSimulator]:
        """Give the free slots to those who are next, of whatever pod. After a lost reply some are not told."""
        records = await self._postgres.fetch(
            self._queries["start_queue.admit"],
            self._limit,
            self._slot_s,
            operation="admit_starts",
            repeatable=True,
        )
        return [
            AdmittedSimulator(simulator_of(record), record["queued_for_s"], record["owner_pod_id"])
            for record in records
        ]

    async def count(self, pod_id: str) -> WaitingCount:
        record = await self._postgres.fetch_row(
            self._queries["start_queue.count"], pod_id, operation="count_waiting_starts", repeatable=True
        )
        assert record is not None  # noqa: S101 - an aggregate has one row, always
        return WaitingCount(record["waiting"], record["own"])

    async def of_pod(self, pod_id: str) -> list[WaitingSimulator]:
        """Who waits of the sessions that this pod owns or has sockets of."""
        records = await self._postgres.fetch(
            self._queries["start_queue.of_pod"],
            pod_id,
            self._slot_s,
            operation="list_waiting_starts",
            repeatable=True,
        )
        return [WaitingSimulator(simulator_of(record), record["place"], record["owner_pod_id"]) for record in records]

    async def place(self, simulator_id: str) -> int | None:
        """Its position; None where it does not wait."""
        place: int | None = await self._postgres.fetch_value(
            self._queries["start_queue.place"],
            simulator_id,
            self._slot_s,
            operation="get_queue_position",
            repeatable=True,
        )
        return place
