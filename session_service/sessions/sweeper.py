"""The sweeper: one pod makes the rounds that would do no more if every pod made them.

So the cost of finding what has run out does not grow with the number of pods. The lease spares work, it keeps no
pods apart: two that hold it for a moment, after a reply was lost, do no harm, since each of those rounds skips what
another has locked, or takes a lease of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from session_service.database.sweeper import SweeperRepository
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

LEASE_S = 3.0
RENEW_EVERY_S = 1.0  # a pod that is lost is replaced within a lease and one look of another


class Sweeper:
    """Whether this pod holds the lease. ``clock``: monotonic seconds; ``pod_id`` is asked at every renewal."""

    def __init__(
        self,
        repository: SweeperRepository,
        metrics: Metrics,
        *,
        pod_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._repository = repository
        self._pod_id = pod_id
        self._clock = clock
        self._held_until_s = clock()
        self._was_held = False
        metrics.sweeper.set_function(lambda: float(self.holds))

    @property
    def holds(self) -> bool:
        """Whether this pod's lease still stands: by its own clock, also while PostgreSQL is away."""
        return self._clock() < self._held_until_s

    async def renew(self) -> None:
        """Renew the lease, or take one that is free. Raises DatabaseUnavailableError; then it runs out by itself."""
        asked_at = self._clock()  # the lease begins after this, so it ends after what is believed here
        pod_id = self._pod_id()
        held = await self._repository.hold(pod_id, LEASE_S)
        self._held_until_s = asked_at + LEASE_S if held else asked_at
        if held != self._was_held:
            self._was_held = held
            log.info("sweeper_taken" if held else "sweeper_lost", pod_id=pod_id)

    def only(self, sweep: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """A round that makes ``sweep`` where this pod holds the lease, and nothing elsewhere."""

        async def made_by_the_sweeper() -> None:
            if self.holds:
                await sweep()

        return made_by_the_sweeper
