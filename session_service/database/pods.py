"""Pod rows: one per incarnation. Every method is one statement; DatabaseUnavailableError may come from each."""

from __future__ import annotations

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries
from session_service.domain.liveness import PodState


class PodRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def register(self, pod_id: str, pod_name: str, address: str, version: str) -> None:
        """Write this incarnation's row."""
        await self._postgres.execute(
            self._queries["pods.register"],
            pod_id,
            pod_name,
            address,
            version,
            operation="register_pod",
            repeatable=True,
        )

    async def beat(self, pod_id: str) -> bool:
        """Raise the beat. False: the row is gone or dead, and this incarnation with it."""
        value = await self._postgres.fetch_value(
            self._queries["pods.beat"], pod_id, operation="beat_pod", repeatable=True
        )
        return value is not None

    async def all(self) -> list[PodState]:
        records = await self._postgres.fetch(self._queries["pods.all"], operation="list_pods", repeatable=True)
        return [
            PodState(record["pod_id"], record["pod_name"], record["beat"], record["draining"], record["dead"])
            for record in records
        ]

    async def declare_dead(self, pod_id: str, beat: int) -> bool:
        """Say that a pod is dead whose beat still is ``beat``. True: this call did it."""
        declared = await self._postgres.fetch_value(
            self._queries["pods.declare_dead"], pod_id, beat, operation="declare_pod_dead", repeatable=True
        )
        return declared is not None

    async def declare_predecessors_dead(self, pod_name: str, address: str, pod_id: str) -> list[str]:
        """Say that earlier incarnations of this name and address are dead; which."""
        records = await self._postgres.fetch(
            self._queries["pods.declare_predecessors_dead"],
            pod_name,
            address,
            pod_id,
            operation="declare_pod_dead",
            repeatable=True,
        )
        return [record["pod_id"] for record in records]

    async def bury_sockets(self, limit: int) -> int:
        """Uncount the sockets of dead pods, of up to ``limit`` sessions; of how many it did."""
        buried: int = await self._postgres.fetch_value(
            self._queries["pods.bury_sockets"], limit, operation="bury_sockets", repeatable=True
        )
        return buried

    async def purge(self) -> None:
        """Delete rows of pods that died long ago and that nothing names any more."""
        await self._postgres.execute(self._queries["pods.purge"], operation="purge_pods", repeatable=True)

    async def start_draining(self, pod_id: str) -> dict[str, int]:
        """Mark this pod as draining; the pods that are live beside it, with their beats.

        Decided under one lock for all pods.
        """
        records = await self._postgres.fetch(
            self._queries["pods.start_draining"], pod_id, operation="drain_pod", repeatable=True
        )
        return {record["live_pod_id"]: record["live_beat"] for record in records}

    async def leave(self, pod_id: str) -> None:
        """Remove this incarnation's row and its sockets; what it owned is released."""
        await self._postgres.execute(self._queries["pods.leave"], pod_id, operation="leave_pod", repeatable=True)
