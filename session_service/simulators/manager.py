"""SimulatorManager: simulators by session: asked for, found, addressed, stopped."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence

import structlog

from session_service.database.events import EventBus
from session_service.database.simulators import SimulatorRepository
from session_service.domain.events import EventType, SessionEvent
from session_service.domain.simulator import Simulator, SimulatorAddress, SimulatorStatus
from session_service.errors import DatabaseUnavailableError
from session_service.simulators.reconciler import Reconciler
from session_service.simulators.running import RunningSimulators
from session_service.simulators.start_queue import StartQueue
from session_service.simulators.teardowns import Teardowns
from session_service.simulators.tokens import SimulatorTokens
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_SETTLED = frozenset({EventType.SIMULATOR_STARTED, EventType.SIMULATOR_STOPPED})


class SimulatorManager:
    """Writes what is wanted (row and target) and leaves the way there to the reconciler."""

    def __init__(
        self,
        repository: SimulatorRepository,
        reconciler: Reconciler,
        teardowns: Teardowns,
        starts: StartQueue,
        tokens: SimulatorTokens,
        events: EventBus,
        running: RunningSimulators,
        metrics: Metrics,
        *,
        pod_id: Callable[[], str],
        max_per_user: int,
        spare_recipe: str | None = None,
    ) -> None:
        """``spare_recipe``: of spares that a start may take; None: there are none."""
        self._repository = repository
        self._reconciler = reconciler
        self._teardowns = teardowns
        self._starts = starts
        self._tokens = tokens
        self._events = events
        self._metrics = metrics
        self._pod_id = pod_id
        self._max_per_user = max_per_user
        self._spare_recipe = spare_recipe
        self._running = running
        self._clock = asyncio.get_running_loop().time
        events.subscribe(self._on_event)

    async def create_simulator(
        self, session_id: str, user_id: str, symbols: Sequence[str], cash: float
    ) -> tuple[Simulator, bool]:
        """The session's live simulator, or a new one on its way, and whether it is new. A new one is CREATING, or
        STARTING where it took a spare.

        Raises SessionNotFoundError, SessionExpiredError, SimulatorLimitReachedError, DatabaseUnavailableError.
        """
        requested = await self._repository.request_start(
            str(uuid.uuid4()),
            session_id,
            user_id,
            symbols,
            cash,
            self._max_per_user,
            self._pod_id(),
            self._spare_recipe,
        )
        if requested.changed:
            source = "pool" if requested.simulator.was_spare else "created"
            self._metrics.simulator_starts_total.labels(source).inc()
            self._events.simulator_changed(requested.simulator, requested.owner_pod_id)
        return requested.simulator, requested.changed

    async def stop_simulator(self, simulator_id: str, reason: str | None) -> Simulator | None:
        """Ask for the stop; the row afterwards, None when there is none. Idempotent."""
        requested = await self._repository.request_stop(simulator_id, reason)
        if requested is None:
            return None
        if requested.changed:
            if requested.simulator.status is SimulatorStatus.STOPPED:  # it had no workload yet
                self._metrics.simulator_operations_total.labels("stop", "success").inc()
            self._events.simulator_changed(requested.simulator, requested.owner_pod_id)
        return requested.simulator

    async def get(self, simulator_id: str, user_id: str | None) -> Simulator | None:
        return await self._repository.get(simulator_id, user_id)

    async def of_session(self, session_id: str, user_id: str | None = None) -> Simulator | None:
        return await self._repository.of_session(session_id, user_id)

    async def queue_position(self, simulator: Simulator) -> int | None:
        """Where it waits to be created, 1 is next; None where it does not wait."""
        return await self._starts.position(simulator)

    @property
    def version(self) -> int:
        """Noted before a simulator is read together with something else, for ``seen``."""
        return self._running.version

    def seen(self, simulator: Simulator | None, version: int) -> None:
        """A session's simulator was read, at ``version``: it need not be read again for its address."""
        self._running.remember(simulator, version)

    async def running(self, session_id: str) -> Simulator | None:
        """The session's running simulator. Believed for some seconds, and for longer while PostgreSQL is away."""
        known = self._running.of_session(session_id)
        if known is not None:
            return known
        version = self._running.version
        try:
            simulator = await self._repository.of_session(session_id)
        except DatabaseUnavailableError:
            known = self._running.of_session(session_id, stale=True)
            if known is None:
                raise
            return known
        self._running.remember(simulator, version)
        return simulator if simulator is not None and simulator.status is SimulatorStatus.RUNNING else None

    async def find(self, simulator_id: str, user_id: str) -> Simulator | None:
        """As ``get``, but a running simulator is believed as in ``running``: for the orders of its user."""
        known = self._running.by_id(simulator_id)
        if known is None:
            version = self._running.version
            try:
                known = await self._repository.get(simulator_id, user_id)
            except DatabaseUnavailableError:
                known = self._running.by_id(simulator_id, stale=True)
                if known is None:
                    raise
            else:
                self._running.remember(known, version)
        return known if known is not None and known.user_id == user_id else None

    async def address(self, session_id: str) -> SimulatorAddress | None:
        """Where the session's running simulator answers; None when there is none."""
        simulator = await self.running(session_id)
        return None if simulator is None else await self.address_of(simulator)

    async def address_of(self, simulator: Simulator) -> SimulatorAddress | None:
        if simulator.endpoint is None:
            return None
        await self._tokens.load()
        token = self._tokens.token(simulator.simulator_id)
        return SimulatorAddress(simulator.session_id, simulator.simulator_id, simulator.endpoint, token)

    async def token(self, simulator_id: str) -> str:
        """The simulator's secret, for callers with the scope `simulators` only."""
        await self._tokens.load()
        return self._tokens.token(simulator_id)

    def suspect(self, session_id: str, simulator_id: str) -> None:
        """A stream of this simulator was lost: ask it at once how it is."""
        self._running.forget(session_id)
        self._reconciler.poke(simulator_id)

    async def stop_inactive(self, timeout_s: float) -> None:
        """Stop what nobody has used for ``timeout_s``."""
        for simulator in await self._repository.stop_inactive(timeout_s):
            log.info("simulator_inactive", simulator_id=simulator.simulator_id)
            self._events.simulator_changed(simulator)

    async def stop_own(self, reason: str, limit_s: float) -> int:
        """Stop the simulators of the sessions that this pod looks after. As ``stop_as_last`` otherwise."""
        pod_id = self._pod_id()
        stopping = await self._repository.stop_of_pod(pod_id, reason)
        for simulator in stopping:
            self._events.simulator_changed(simulator)
        asked = {simulator.simulator_id for simulator in stopping}

        async def remaining() -> int:
            return len(asked.intersection(await self._repository.unsettled(pod_id)))

        return await self._settled(remaining, limit_s)

    async def stop_as_last(self, reason: str, limit_s: float) -> int:
        """Stop every simulator, unless a live pod is beside this one, and wait until their workloads are gone.

        Waits at most ``limit_s``; returns how many remain then. What remains is found by the next pod that starts.
        """

        async def remaining() -> int:
            stopping = await self._repository.stop_as_last(self._pod_id(), reason)
            for requested in stopping:
                if requested.changed:
                    self._events.simulator_changed(requested.simulator)
            return len(stopping) + await self._repository.teardown_count()

        return await self._settled(remaining, limit_s)

    async def _settled(self, remaining: Callable[[], Awaitable[int]], limit_s: float) -> int:
        deadline = self._clock() + limit_s
        while left := await remaining():
            if self._clock() > deadline:
                return left
            await self._reconciler.resync()
            await self._teardowns.work_off()
            await asyncio.sleep(0.05)
        return 0

    async def measure(self) -> None:
        """Set the gauge of what runs for the sessions that this pod owns."""
        self._metrics.active_simulators.set(await self._repository.count_running(self._pod_id()))

    def _on_event(self, event: SessionEvent) -> None:
        if event.simulator_id is not None and event.owner_pod_id == self._pod_id():
            # Asked for here or on another pod: this one's reconciler has to act on it.
            self._reconciler.poke(event.simulator_id)
        elif event.simulator_id is not None and event.type in _SETTLED:
            self._reconciler.settled(event.simulator_id)
        if event.session_id is not None and (event.simulator_id or event.type is EventType.SESSION_ENDED):
            self._running.forget(event.session_id)
