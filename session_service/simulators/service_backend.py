"""Backend ``service``: one exchange, run by somebody else, that serves many sessions.

There is no workload to create: a session's state at the exchange is the workload. StartSimulator makes it, and
StopSimulator, which the reconciler sends before it deletes, removes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from session_service.simulators.backend import Workload, WorkloadPhase, WorkloadSpec


class ServiceBackend:
    """Every simulator is ready, at the one configured endpoint. Whether it lives is told by its heartbeats."""

    create_limit_s = 0.0  # nothing is created
    recipe = ""  # nor kept ready: the exchange is always

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    async def start(self) -> None:
        """Nothing to make usable: the exchange is somebody else's."""

    async def close(self) -> None:
        """Nothing was taken."""

    async def create(self, spec: WorkloadSpec) -> Workload:
        return self._workload(spec.simulator_id)

    async def assign(self, simulator_id: str, uid: str, session_id: str, user_id: str) -> None:
        """There are no spares."""

    async def get(self, simulator_id: str) -> Workload | None:
        return self._workload(simulator_id)

    def observed(self, simulator_id: str) -> Workload | None:
        """Every workload is ready: there is nothing to wait for."""
        return None

    async def list(self, database_id: str) -> list[Workload]:
        """The contract has no call that lists sessions; a state without heartbeats and streams ends by itself."""
        return []

    async def delete(self, simulator_id: str, uid: str | None) -> bool:
        """Gone, as far as it is ours to know: a StopSimulator that was lost is made up for by the exchange's TTL."""
        return True

    async def changes(self) -> AsyncIterator[Workload]:
        await asyncio.get_running_loop().create_future()
        yield self._workload("")  # pragma: no cover - never reached; it makes this an asynchronous generator

    def _workload(self, simulator_id: str) -> Workload:
        return Workload(simulator_id, uid=simulator_id, phase=WorkloadPhase.READY, endpoint=self._endpoint)
