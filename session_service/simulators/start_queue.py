"""The start queue as a pod sees it: begins creates that have a slot, gives free slots to who is next, tells places.

Any pod gives slots to starts of any pod: by one statement when it frees one itself, and in a round every second,
which also finds what no event told. PostgreSQL holds the queue and decides (domain/start_queue.py, ADR 0025).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from session_service.database.events import EventBus
from session_service.database.simulators import OwnedSimulator
from session_service.database.start_queue import (
    Creation,
    Queued,
    StartQueueRepository,
    WaitingSimulator,
)
from session_service.domain.events import NOT_QUEUED, EventType, SessionEvent
from session_service.domain.simulator import Simulator, SimulatorStatus
from session_service.errors import UnavailableError
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_FREES_A_SLOT = frozenset(
    {SimulatorStatus.RUNNING, SimulatorStatus.STOPPING, SimulatorStatus.STOPPED, SimulatorStatus.ERROR}
)


class StartQueue:
    """``run`` and ``round`` are for the pod's task guard.

    Clients hear of positions by events: of the first one when a start enters the queue, of its end when it is
    admitted, and of changes in between from the rounds of each pod that has their sockets, once a round at most.
    """

    def __init__(
        self, repository: StartQueueRepository, events: EventBus, metrics: Metrics, *, pod_id: Callable[[], str]
    ) -> None:
        self._repository = repository
        self._events = events
        self._metrics = metrics
        self._pod_id = pod_id
        self._waiting: dict[str, WaitingSimulator] = {}  # of this pod's sessions and sockets, at the last look
        self._heard: set[str] = set()  # with an event since the round began: it may be newer than what was read
        self._freed = asyncio.Event()
        events.subscribe(self._on_event)

    async def begin_create(self, owned: OwnedSimulator, within_s: float) -> Creation | Queued | None:
        """As the repository's. One that has to wait is woken by an event when it has its slot."""
        begun = await self._repository.begin_create(owned, within_s)
        simulator = owned.simulator
        if isinstance(begun, Creation) and begun.queued_for_s is not None:
            self._metrics.simulator_queue_seconds.observe(begun.queued_for_s)
        elif isinstance(begun, Queued) and simulator.simulator_id not in self._waiting:
            log.info("simulator_queued", simulator_id=simulator.simulator_id, position=begun.position)
            waiting = WaitingSimulator(simulator, begun.position, owned.ownership.pod_id)
            self._waiting[simulator.simulator_id] = waiting
            self._events.simulator_changed(simulator, queue_position=begun.position)
        return begun

    async def position(self, simulator: Simulator) -> int | None:
        """Where it waits, 1 is next; None where it does not. Raises DatabaseUnavailableError."""
        if simulator.status is not SimulatorStatus.CREATING:
            return None
        return await self._repository.place(simulator.simulator_id)

    async def run(self) -> None:
        """Fill the slots that are freed here. Runs until it is cancelled; what fails is the round's to find."""
        while True:
            await self._freed.wait()
            self._freed.clear()
            try:
                await self._admit()
            except UnavailableError as error:
                log.warning("start_slots_not_filled", code=error.code)

    async def round(self) -> None:
        """Fill what slots are free, and tell who waits here of changed places. Raises DatabaseUnavailableError."""
        self._heard.clear()
        before = dict(self._waiting)
        pod_id = self._pod_id()
        count = await self._repository.count(pod_id)
        self._metrics.waiting_starts.set(count.own)
        waiting: Sequence[WaitingSimulator] = ()
        if count.waiting:
            await self._admit()
            waiting = await self._repository.of_pod(pod_id)
        self._tell(before, waiting)

    async def _admit(self) -> None:
        for admitted in await self._repository.admit():
            simulator = admitted.simulator
            self._metrics.simulator_queue_seconds.observe(admitted.queued_for_s)
            log.info(
                "simulator_admitted",
                simulator_id=simulator.simulator_id,
                queued_for_s=round(admitted.queued_for_s, 3),
            )
            self._events.simulator_changed(simulator, admitted.owner_pod_id, queue_position=NOT_QUEUED)

    def _tell(self, before: dict[str, WaitingSimulator], waiting: Sequence[WaitingSimulator]) -> None:
        """What was read, to who is here; as if events had come."""
        now = {one.simulator.simulator_id: one for one in waiting}
        for simulator_id in before.keys() - now.keys() - self._heard:
            left = self._waiting.pop(simulator_id, None)
            if left is not None:
                self._events.tell_here(left.simulator, left.owner_pod_id, queue_position=NOT_QUEUED)
        for simulator_id, one in now.items():
            if simulator_id not in self._heard:
                self._waiting[simulator_id] = one
                self._events.tell_here(one.simulator, queue_position=one.position)

    def _on_event(self, event: SessionEvent) -> None:
        if event.simulator_id is not None:
            self._heard.add(event.simulator_id)
            if event.queue_position == NOT_QUEUED or event.status != SimulatorStatus.CREATING:
                self._waiting.pop(event.simulator_id, None)
        ended = event.type is EventType.SESSION_ENDED or event.status in _FREES_A_SLOT
        if ended and self._events.is_own(event):
            self._freed.set()
