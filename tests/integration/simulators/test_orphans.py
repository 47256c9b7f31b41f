"""A session that ends while its simulator is being made leaves no process behind (docs/lifecycle.md#simulators)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from session_service.simulators.backend import SimulatorBackend, Workload, WorkloadSpec
from tests.support.api_client import ApiClient
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually


class CreatesLate:
    """The real backend, whose creates arrive there only when the test says so."""

    create_limit_s = 600.0
    recipe = "as the real one"

    def __init__(self, real: SimulatorBackend) -> None:
        self._real = real
        self.asked = asyncio.Event()
        self.arrive = asyncio.Event()
        self.created = asyncio.Event()

    async def start(self) -> None:
        await self._real.start()

    async def close(self) -> None:
        await self._real.close()

    async def create(self, spec: WorkloadSpec) -> Workload:
        self.asked.set()
        await self.arrive.wait()
        workload = await self._real.create(spec)
        self.created.set()
        return workload

    async def assign(self, simulator_id: str, uid: str, session_id: str, user_id: str) -> None:
        await self._real.assign(simulator_id, uid, session_id, user_id)

    async def get(self, simulator_id: str) -> Workload | None:
        return await self._real.get(simulator_id)

    def observed(self, simulator_id: str) -> Workload | None:
        return self._real.observed(simulator_id)

    async def list(self, database_id: str) -> list[Workload]:
        return await self._real.list(database_id)

    async def delete(self, simulator_id: str, uid: str | None) -> bool:
        return await self._real.delete(simulator_id, uid)

    def changes(self) -> AsyncIterator[Workload]:
        return self._real.changes()


async def test_a_workload_that_comes_after_its_sessions_end_is_removed(
    service: Service, api: ApiClient, sql: Sql
) -> None:
    reconciler = service.server._reconciler
    backend = CreatesLate(reconciler._backend)
    reconciler._backend = backend
    session_id = await api.open_session()
    assert (await api.call("POST", "/api/simulators", json={"sessionId": session_id}))[0] == 202
    await asyncio.wait_for(backend.asked.wait(), 30)
    assert (await api.call("DELETE", f"/api/sessions/{session_id}"))[0] == 200

    async def is_looked_for() -> bool:
        return bool(
            await sql.fetchval("SELECT attempts > 0 AND leased_until = create_until FROM simulator.teardowns")
        )

    await eventually(is_looked_for, within_s=30, what="the teardown, which finds nothing yet")
    backend.arrive.set()
    await asyncio.wait_for(backend.created.wait(), 30)
    database_id = await service.server._database.orphans.database_id()

    async def nothing_is_left() -> bool:
        return await backend.list(database_id) == [] and not await sql.fetchval(
            "SELECT count(*) FROM simulator.teardowns"
        )

    await eventually(nothing_is_left, within_s=30, what="no workload")
