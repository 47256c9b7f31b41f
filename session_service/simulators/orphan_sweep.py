"""The round that finds workloads without a row: what a lost call, or rows that were lost, left at the platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from session_service.database.orphans import HeldOrphan, OrphanRepository
from session_service.database.simulators import SimulatorRepository
from session_service.simulators.backend import SimulatorBackend, Workload
from session_service.simulators.orphans import compare
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

CONFIRM = "SELECT simulator.confirm_orphans()"


class OrphanSweep:
    """Hands orphans to the teardowns; too many at once wait for somebody's word (docs/operations.md#orphans).

    Two pods that sweep at once do no harm. ``tear_down`` works the teardowns off.
    """

    def __init__(
        self,
        orphans: OrphanRepository,
        simulators: SimulatorRepository,
        backend: SimulatorBackend,
        metrics: Metrics,
        *,
        tear_down: Callable[[], Awaitable[None]],
    ) -> None:
        self._orphans = orphans
        self._simulators = simulators
        self._backend = backend
        self._metrics = metrics
        metrics.orphans_removed_total.labels("workload")  # a first event is seen as an increase only from a 0
        self._tear_down = tear_down

    async def sweep(self) -> None:
        """One round. Raises DatabaseUnavailableError, BackendUnavailableError, and is made again with the next."""
        listed = await self._backend.list(await self._orphans.database_id())
        known = await self._orphans.known([workload.simulator_id for workload in listed])
        finding = compare(listed, known)
        confirmed = await self._orphans.hold([_held(workload) for workload in finding.held])
        unconfirmed = 0
        handed_over = [await self._hand_over(workload) for workload in finding.removable]
        for workload in finding.held:
            if (workload.simulator_id, workload.uid) in confirmed:
                handed_over.append(await self._hand_over(workload))
            else:
                unconfirmed += 1
        if unconfirmed:
            log.error("orphans_held", orphans=unconfirmed, workloads=len(listed), confirm=CONFIRM)
        if any(handed_over):
            await self._tear_down()

    async def measure(self) -> None:
        """Set the gauge of what waits for somebody's word, the same on every pod."""
        self._metrics.orphans_held.set(await self._orphans.count_held())

    async def _hand_over(self, workload: Workload) -> bool:
        """Have it removed unless it has gone, or another stands there, by the platform's own present word."""
        present = await self._backend.get(workload.simulator_id)
        if present is None or present.uid != workload.uid:
            return False
        requested = await self._simulators.request_teardown(
            workload.simulator_id, workload.session_id, workload.endpoint, workload.uid
        )
        if requested:
            log.warning("orphan_found", simulator_id=workload.simulator_id, session_id=workload.session_id)
            self._metrics.orphans_removed_total.labels("workload").inc()
        return requested


def _held(workload: Workload) -> HeldOrphan:
    return HeldOrphan(workload.simulator_id, workload.uid, workload.session_id, workload.endpoint)
