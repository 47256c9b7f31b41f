"""The warm pool: simulators that are ready before anybody asks for one (docs/kubernetes.md#warm-pool).

A start takes a spare by the statement that makes its row (``simulator.request_start``). From then on that is a
simulator as any other, and nothing here sees it again: here spares are made and given up. Each step is recorded
before the next, as a simulator's are: a spare's row is there before its workload, and its end is a teardown. So
several pods may do it at once, and any may be lost; that one pod does it for all spares work.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable

import structlog

from session_service.aiokit.backoff import Backoff
from session_service.database.events import EventBus
from session_service.database.simulators import SimulatorRepository
from session_service.database.warm_pool import ReservedSpare, Spare, SpareStatus, WarmPoolRepository
from session_service.domain.events import SessionEvent
from session_service.domain.simulator import SimulatorStatus
from session_service.domain.start_queue import SLOT_S
from session_service.errors import BackendRefusedError, BackendUnavailableError, UnavailableError
from session_service.simulators.backend import SimulatorBackend, Workload, WorkloadPhase, WorkloadSpec
from session_service.simulators.spare_steps import SpareAction, next_spare_step
from session_service.simulators.tokens import SimulatorTokens
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

SEND_CREATE_WITHIN_S = 3.0  # of its row: longer than that statement may take, retries included
AFTER_FAILURES = Backoff(first_s=2.0, max_s=60.0)  # what keeps spares from starting keeps users' starts too
_LOOKS_AT_ONCE = 8


class WarmPool:
    """Keeps ``size`` spares, over all pods. ``clock``: monotonic seconds; ``pod_id`` is this pod's incarnation.

    ``start_limit``: of the start queue. Spares take slots of it only where no user waits for one. ``database_id``:
    what this database's workloads are labelled with.
    """

    def __init__(
        self,
        spares: WarmPoolRepository,
        simulators: SimulatorRepository,
        backend: SimulatorBackend,
        tokens: SimulatorTokens,
        events: EventBus,
        metrics: Metrics,
        *,
        size: int,
        start_limit: int,
        database_id: Callable[[], Awaitable[str]],
        pod_id: Callable[[], str],
        clock: Callable[[], float],
        after_failures: Backoff = AFTER_FAILURES,
    ) -> None:
        self._spares = spares
        self._simulators = simulators
        self._backend = backend
        self._tokens = tokens
        self._metrics = metrics
        self._size = size
        self._start_limit = start_limit
        self._database_id = database_id
        self._pod_id = pod_id
        self._clock = clock
        self._after_failures = after_failures
        self._failures = 0  # in a row
        self._not_before_s = clock()
        self._refilling = asyncio.Lock()
        self._taken = asyncio.Event()
        events.subscribe(self._on_event)

    async def refill(self) -> None:
        """One round: give up what is too much or outdated, see to what is on its way, and create what is missing.

        Raises DatabaseUnavailableError. The platform's failures are borne: after some the next creates wait longer.
        """
        async with self._refilling:
            for simulator_id in await self._spares.trim(self._backend.recipe, self._size):
                log.info("spare_given_up", simulator_id=simulator_id)
            if not self._size:
                return
            spares = await self._spares.all()
            await self._look_at([spare for spare in spares if spare.status is SpareStatus.CREATING])
            missing = self._size - len(spares)
            if missing > 0 and self._clock() >= self._not_before_s:
                await self._create(missing)

    async def inspect(self) -> None:
        """Give up the ready ones whose workloads are no more what was recorded.

        Raises DatabaseUnavailableError, BackendUnavailableError.
        """
        ready = [spare for spare in await self._spares.all() if spare.status is SpareStatus.READY]
        if not ready:
            return
        # Rows before workloads: what is not listed was there once. And each is asked after before it is given up.
        listed = await self._backend.list(await self._database_id())
        there = {workload.simulator_id: workload for workload in listed}
        await self._look_at(
            [
                spare
                for spare in ready
                if next_spare_step(spare, there.get(spare.simulator_id)).action is not SpareAction.KEEP
            ]
        )

    async def refill_when_taken(self, refill: Callable[[], Awaitable[None]]) -> None:
        """Call ``refill`` whenever a start took a spare, on whichever pod. Runs until it is cancelled; what fails is
        made up for by the next round."""
        while True:
            await self._taken.wait()
            self._taken.clear()
            try:
                await refill()
            except UnavailableError as error:
                log.warning("refill_failed", code=error.code)

    async def measure(self) -> None:
        """Set the gauge of spares, the same on every pod."""
        for status, count in (await self._spares.counts()).items():
            self._metrics.warm_pool_spares.labels(status.value.lower()).set(count)

    async def _look_at(self, spares: list[Spare]) -> None:
        limit = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(spare: Spare) -> None:
            async with limit:
                try:
                    await self._advance(spare)
                except BackendUnavailableError as error:
                    log.warning("spare_backend_unavailable", simulator_id=spare.simulator_id, detail=error.detail)

        await asyncio.gather(*(look(spare) for spare in spares))

    async def _advance(self, spare: Spare) -> None:
        simulator_id = spare.simulator_id
        observed = self._backend.observed(simulator_id)
        if observed is not None and next_spare_step(spare, observed).action is SpareAction.KEEP:
            return
        workload = await self._backend.get(simulator_id)
        step = next_spare_step(spare, workload)
        match step.action:
            case SpareAction.KEEP:
                return
            case SpareAction.RECORD:
                assert workload is not None  # noqa: S101 - the rule says so
                await self._record(simulator_id, workload)
            case SpareAction.REMOVE:
                if await self._spares.remove(simulator_id, spare.status):
                    log.warning("spare_lost", simulator_id=simulator_id, status=spare.status, reason=step.reason)
                    if spare.status is SpareStatus.CREATING:
                        self._failed()

    async def _create(self, missing: int) -> None:
        await self._tokens.load()
        begun_at_s = self._clock()
        reserved = await self._spares.reserve(
            self._pod_id(),
            [str(uuid.uuid4()) for _ in range(missing)],
            self._backend.recipe,
            self._size,
            within_s=self._backend.create_limit_s + SEND_CREATE_WITHIN_S,
            limit=self._start_limit,
            slot_s=SLOT_S,
        )
        if self._clock() - begun_at_s > SEND_CREATE_WITHIN_S:
            return  # they would take effect later than was said: their rows are given up when none can any more
        await asyncio.gather(*(self._create_one(spare) for spare in reserved))

    async def _create_one(self, spare: ReservedSpare) -> None:
        simulator_id = spare.simulator_id
        try:
            workload = await self._backend.create(self._spec(spare))
        except BackendRefusedError as error:
            log.error("spare_create_refused", simulator_id=simulator_id, detail=error.detail)
            await self._spares.remove(simulator_id, SpareStatus.CREATING)
            await self._simulators.create_answered(simulator_id, spare.until)  # a refusal is an answer
            self._failed()
        except BackendUnavailableError as error:
            log.warning("spare_backend_unavailable", simulator_id=simulator_id, detail=error.detail)
            self._failed()
        else:
            await self._record(simulator_id, workload, spare)

    async def _record(self, simulator_id: str, workload: Workload, answers: ReservedSpare | None = None) -> None:
        """``answers``: what asked for the workload, where it is known to be the only create of it."""
        endpoint = workload.endpoint if workload.phase is WorkloadPhase.READY else None
        answered = None if answers is None else answers.until
        if await self._spares.recorded(simulator_id, workload.uid, endpoint, answered):
            if endpoint is not None:
                self._failures = 0
            return
        # It was given up meanwhile, and its teardown may have found nothing yet to remove.
        if answered is not None:
            await self._simulators.create_answered(simulator_id, answered)
        await self._simulators.request_teardown(simulator_id, "", None, workload.uid)

    def _failed(self) -> None:
        self._failures += 1
        self._not_before_s = self._clock() + self._after_failures.delay_s(self._failures, random.random)

    def _spec(self, spare: ReservedSpare) -> WorkloadSpec:
        return WorkloadSpec.spare(spare.simulator_id, self._tokens.token(spare.simulator_id), spare.database_id)

    def _on_event(self, event: SessionEvent) -> None:
        # A request that its owner is told of begins with CREATING, unless it took a spare.
        if event.owner_pod_id is not None and event.status == SimulatorStatus.STARTING:
            self._taken.set()
