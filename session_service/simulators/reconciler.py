"""The reconciler: brings each simulator from what its row says to what its target says, one recorded step at a time.

Only the owner of a session takes steps for its simulators, and it reads with each one whether it still is. Every step
may be made twice: backends create and delete idempotently, StartSimulator answers a second call as the first, each
transition is a conditional statement that only matches where it starts, and only for the owner. So a crash between
two steps costs a repetition, and a former owner that does not know yet changes nothing: PostgreSQL and simulators
refuse its epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import structlog

from session_service.aiokit.keyed import KeyedQueue
from session_service.clients.exchange import ExchangeClient, Fence
from session_service.database.events import EventBus
from session_service.database.simulators import OwnedSimulator, SimulatorRepository
from session_service.database.start_queue import Queued
from session_service.domain.placement import Ownership
from session_service.domain.simulator import Simulator, SimulatorAddress, SimulatorStatus
from session_service.errors import (
    BackendRefusedError,
    BackendUnavailableError,
    DatabaseUnavailableError,
    ExchangeStateLostError,
    FencedError,
    InvalidRequestError,
    SessionServiceError,
    UnavailableError,
)
from session_service.simulators.backend import SimulatorBackend, Workload, WorkloadPhase, WorkloadSpec
from session_service.simulators.heartbeat_log import HeartbeatLog
from session_service.simulators.owner import Owner
from session_service.simulators.running import RunningSimulators
from session_service.simulators.start_attempts import BACKEND_BACKOFF, EXCHANGE_BACKOFF, StartAttempts
from session_service.simulators.start_queue import StartQueue
from session_service.simulators.steps import Action, Step, after_failed_heartbeat, after_failed_step, next_step
from session_service.simulators.teardowns import Teardowns
from session_service.simulators.tokens import SimulatorTokens
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 0.25  # while a workload is being placed; the backend's watch usually is earlier
_SUSPECT_AGAIN_S = 1.0  # a running simulator that does not answer
_CONCURRENCY = 32
_ON_ITS_WAY = frozenset({SimulatorStatus.CREATING, SimulatorStatus.STARTING})
_SEND_CREATE_WITHIN_S = 3.0  # of its record: longer than that statement may take, retries included


class Reconciler:
    """The way of this pod's simulators. Must be created inside a running loop; ``close`` ends its work.

    ``pod_id`` is this pod's incarnation, which may change.
    """

    def __init__(
        self,
        repository: SimulatorRepository,
        backend: SimulatorBackend,
        exchange: ExchangeClient,
        tokens: SimulatorTokens,
        teardowns: Teardowns,
        starts: StartQueue,
        events: EventBus,
        running: RunningSimulators,
        metrics: Metrics,
        *,
        pod_id: Callable[[], str],
        owner: Owner,
    ) -> None:
        self._repository = repository
        self._backend = backend
        self._exchange = exchange
        self._tokens = tokens
        self._teardowns = teardowns
        self._starts = starts
        self._events = events
        self._running = running
        self._metrics = metrics
        self._pod_id = pod_id
        self._owner = owner
        self._held: dict[str, OwnedSimulator] = {}  # running, of sessions that this pod owned when it last looked
        self._heartbeats = HeartbeatLog()
        self._clock = asyncio.get_running_loop().time
        self._attempts = StartAttempts(self._clock)
        self._silent_since: dict[str, float] = {}
        self._queue: KeyedQueue[str] = KeyedQueue(
            "reconciler",
            self._reconcile,
            concurrency=_CONCURRENCY,
            on_error=lambda name, _error: metrics.background_errors_total.labels(name).inc(),
            logged_at_source=(DatabaseUnavailableError,),
        )

    async def close(self) -> None:
        await self._queue.close()

    def poke(self, simulator_id: str) -> None:
        """Something may have changed: look at this simulator soon."""
        self._queue.poke(simulator_id)

    def settled(self, simulator_id: str) -> None:
        """It runs or is at its end, an event says: nothing is to be kept of a start that was tried here. One that
        waited for its slot is looked at by nobody else."""
        if simulator_id in self._attempts:
            self._queue.poke(simulator_id)

    # --- loops for the pod's task guard ----------------------------------------------------------------------

    async def watch(self) -> None:
        """Look at a simulator whenever its platform reports a change. Runs until it is cancelled."""
        async for workload in self._backend.changes():
            self._queue.poke(workload.simulator_id)

    async def resync(self) -> None:
        """Look at what is on its way here: finds what a lost notification, a crash or another pod left."""
        for simulator_id in await self._repository.unsettled(self._pod_id()):
            self._queue.poke(simulator_id)

    async def look_at(self, session_ids: Sequence[str]) -> None:
        """Sessions have come to this pod: look at their simulators, which shows those that run its epoch."""
        for simulator_id in await self._repository.live_of_sessions(session_ids):
            self._queue.poke(simulator_id)

    async def beat(self) -> None:
        """Look at every running simulator of this pod's sessions, which sends its heartbeat.

        While PostgreSQL is away those that ran before get theirs all the same: an outage is no reason for a simulator
        to drop its state, and one that another pod looks after by now refuses. What comes of it is seen when there is
        a row to write it to.
        """
        version, pod_id = self._running.version, self._pod_id()
        before = dict(self._held)
        try:
            known = await self._repository.running_of_pod(pod_id)
        except DatabaseUnavailableError:
            limit = asyncio.Semaphore(_CONCURRENCY)
            await asyncio.gather(*(self._keep_alive(owned, limit) for owned in list(self._held.values())))
            return
        self._running.refresh([owned.simulator for owned in known], version)
        read = {owned.simulator.simulator_id: owned for owned in known if owned.ownership.pod_id == pod_id}
        # What has come or gone during the read is newer than what was read.
        changed = {
            simulator_id
            for simulator_id in before.keys() | self._held.keys()
            if before.get(simulator_id) is not self._held.get(simulator_id)
        }
        self._held = {
            simulator_id: owned
            for held, is_newer in ((read, False), (self._held, True))
            for simulator_id, owned in held.items()
            if (simulator_id in changed) is is_newer
        }
        for simulator_id in read:
            self._queue.poke(simulator_id)

    async def record_heartbeats(self) -> None:
        """Write when the last heartbeats were sent, for the sessions that are still this pod's.

        Raises DatabaseUnavailableError; what could not be written is kept for the next time.
        """
        if not (sent := self._heartbeats.take()):
            return
        try:
            fenced = await self._owner.heartbeats_sent(sent)
        except DatabaseUnavailableError:
            self._heartbeats.put_back(sent)
            raise
        for session_id in fenced:
            self._demote(session_id)

    # --- one simulator ---------------------------------------------------------------------------------------

    async def _reconcile(self, simulator_id: str) -> None:
        await self._tokens.load()
        while True:
            owned = await self._repository.owned(simulator_id)
            if owned is None:
                self._forget(simulator_id)
                return
            if owned.ownership.pod_id != self._pod_id():
                self._leave(simulator_id)
                return
            try:
                again = await self._advance(owned)
            except BackendUnavailableError as error:
                log.warning("simulator_backend_unavailable", simulator_id=simulator_id, detail=error.detail)
                again = await self._after_failed_step(owned, error)
            except FencedError as error:
                owner = owned.ownership
                if await self._owner.outranked(owner.session_id, owner.epoch, error.highest_epoch):
                    # Not at once: one that refuses every epoch would be asked as fast as it answers.
                    self._queue.poke_later(simulator_id, _LOOK_AGAIN_S)
                else:
                    self._leave(simulator_id)
                return
            if not again:
                return

    async def _advance(self, owned: OwnedSimulator) -> bool:
        """Take one step. True: look at the row again at once. Raises FencedError."""
        simulator = owned.simulator
        simulator_id = simulator.simulator_id
        on_its_way = simulator.status in _ON_ITS_WAY
        if owned.waits_for_slot:
            self._attempts.pause(simulator_id)
            return False  # an event comes with the slot, or the round that finds it
        if on_its_way and (due_in_s := self._attempts.due_in_s(simulator_id)):
            self._queue.poke_later(simulator_id, due_in_s)
            return False
        observed = self._observed_step(simulator)
        if observed is not None and observed.action is Action.WAIT:
            await self._wait(owned, observed.reason)
            return False
        workload = None
        if on_its_way:
            workload = await self._backend.get(simulator_id)
            self._attempts.looked(simulator_id)
        creating = simulator.status is SimulatorStatus.CREATING
        step = next_step(
            simulator,
            workload,
            predecessor_remains=creating
            and await self._repository.predecessor_remains(simulator.session_id, simulator_id),
            waited_s=self._attempts.spent_s(simulator_id) if on_its_way else 0.0,
        )
        match step.action:
            case Action.REST:
                self._forget(simulator_id)
                return False
            case Action.WAIT:
                await self._wait(owned, step.reason)
                return False
            case Action.FAIL:
                await self._fail(owned, step)
                return True
            case Action.CREATE_WORKLOAD:
                return await self._create(owned)
            case Action.RECORD_WORKLOAD:
                assert workload is not None  # noqa: S101 - the rule says so
                return await self._record(owned, workload, answered=None)
            case Action.REPLACE_SPARE:
                return await self._replace_spare(owned)
            case Action.START_EXCHANGE:
                assert workload is not None  # noqa: S101
                return await self._start_exchange(owned, workload)
            case Action.HEARTBEAT:
                await self._beat(owned)
                return False
            case Action.REMOVE_WORKLOAD:
                return await self._remove(owned)

    def _observed_step(self, simulator: Simulator) -> Step | None:
        """The next step by what the watch told: while that is to wait, the platform is not asked about each simulator
        again and again, but now and then. Anything else is done by the platform's present word only."""
        observed = self._backend.observed(simulator.simulator_id)
        if simulator.status is not SimulatorStatus.STARTING or observed is None:
            return None
        if self._attempts.is_look_due(simulator.simulator_id):
            return None
        waited_s = self._attempts.spent_s(simulator.simulator_id)
        return next_step(simulator, observed, predecessor_remains=False, waited_s=waited_s)

    async def _after_failed_step(self, owned: OwnedSimulator, error: BackendUnavailableError) -> bool:
        """The backend did not do it: go on after a growing wait, no shorter than it asked for, and not for ever.

        True: look at the row again at once.
        """
        simulator_id = owned.simulator.simulator_id
        if owned.simulator.status is SimulatorStatus.RUNNING:
            self._queue.poke_later(simulator_id, _SUSPECT_AGAIN_S)
            return False
        if owned.simulator.status in _ON_ITS_WAY:
            step = after_failed_step(self._attempts.spent_s(simulator_id))
            if step.action is Action.FAIL:
                await self._fail(owned, step)
                return True
        delay_s = self._attempts.failed(simulator_id, BACKEND_BACKOFF, at_least_s=error.retry_after_s)
        self._queue.poke_later(simulator_id, delay_s)
        return False

    async def _wait(self, owned: OwnedSimulator, reason: str | None) -> None:
        """Look again later. What keeps a simulator from starting is told while it does, not only when it failed."""
        simulator = owned.simulator
        self._attempts.answered(simulator.simulator_id)
        self._queue.poke_later(simulator.simulator_id, _LOOK_AGAIN_S)
        if simulator.status is not SimulatorStatus.STARTING or reason == simulator.reason:
            return
        row = await self._repository.waiting(owned, reason)
        if row is None:
            await self._write_refused(owned)
        else:
            self._announce(row)

    async def _create(self, owned: OwnedSimulator) -> bool:
        """Say until when a create may take effect, then send it: nobody takes the simulator for gone before then.
        Without a start slot it waits for one.
        """
        begun_at = self._clock()
        creation = await self._starts.begin_create(owned, self._backend.create_limit_s + _SEND_CREATE_WITHIN_S)
        if creation is None:
            await self._write_refused(owned)
            return True
        if isinstance(creation, Queued):
            self._attempts.pause(owned.simulator.simulator_id)
            return False
        if self._clock() - begun_at > _SEND_CREATE_WITHIN_S:
            return True  # it would take effect later than was said
        try:
            workload = await self._backend.create(self._spec(owned.simulator, creation.database_id))
        except BackendRefusedError as error:
            log.error("simulator_create_refused", simulator_id=owned.simulator.simulator_id, detail=error.detail)
            if not owned.create_open_s:  # a refusal is an answer: nothing of this create is still to come
                await self._repository.create_answered(owned.simulator.simulator_id, creation.until)
            await self._fail(owned, Step(Action.FAIL, error.reason))
            return True
        # Where an earlier one was sent, by whomever, its answer may still be to come.
        return await self._record(owned, workload, answered=None if owned.create_open_s else creation.until)

    async def _record(self, owned: OwnedSimulator, workload: Workload, *, answered: datetime | None) -> bool:
        """``answered``: until when the create might have taken effect that is known to be the only one."""
        simulator_id = owned.simulator.simulator_id
        if workload.phase is WorkloadPhase.ENDING:
            self._queue.poke_later(simulator_id, _LOOK_AGAIN_S)
            return False
        row = await self._repository.workload_created(owned, workload.uid, workload.endpoint, answered)
        if row is None:
            if answered is not None:
                await self._repository.create_answered(simulator_id, answered)
            await self._step_refused(owned, workload)
        else:
            self._attempts.answered(simulator_id)
            self._announce(row)
        return True

    async def _step_refused(self, owned: OwnedSimulator, workload: Workload) -> None:
        """A step was made, and not recorded: the session is another pod's, or the row is not where it was.

        Either way the workload may have come to be behind the back of whoever removed it.
        """
        await self._remove_orphan(owned.simulator, workload)
        await self._write_refused(owned)

    async def _write_refused(self, owned: OwnedSimulator) -> None:
        owner = owned.ownership
        await self._owner.write_refused(owner.session_id, _pod_of(owner), owner.epoch)

    async def _remove_orphan(self, simulator: Simulator, workload: Workload) -> None:
        """The row went while a step was under way, and the teardown may have found nothing yet to remove."""
        if await self._repository.request_teardown(
            simulator.simulator_id, simulator.session_id, workload.endpoint, workload.uid
        ):
            log.info("simulator_orphaned", simulator_id=simulator.simulator_id)
            self._metrics.orphans_removed_total.labels("workload").inc()
            await self._teardowns.work_off()

    async def _replace_spare(self, owned: OwnedSimulator) -> bool:
        """Remove what it took; then it is created as if there had been no spare."""
        simulator_id = owned.simulator.simulator_id
        if not await self._backend.delete(simulator_id, owned.simulator.workload_uid):
            self._queue.poke_later(simulator_id, _LOOK_AGAIN_S)
            return False
        row = await self._repository.spare_is_lost(owned)
        if row is None:
            await self._write_refused(owned)
        else:
            log.warning("spare_replaced", simulator_id=simulator_id)
            self._metrics.simulator_operations_total.labels("replace", "success").inc()
            self._announce(row)
        return True

    async def _assign(self, simulator: Simulator, workload: Workload) -> None:
        """Before its first call: from then on the row does not say any more that this is still to be done."""
        try:
            await self._backend.assign(simulator.simulator_id, workload.uid, simulator.session_id, simulator.user_id)
        except BackendRefusedError as error:
            # Only whoever looks at the platform misses it.
            log.warning("spare_not_assigned", simulator_id=simulator.simulator_id, detail=error.detail)

    async def _start_exchange(self, owned: OwnedSimulator, workload: Workload) -> bool:
        assert workload.endpoint is not None  # noqa: S101 - a ready workload has one
        simulator = owned.simulator
        if simulator.was_spare:
            await self._assign(simulator, workload)
        address = self._address(simulator, workload.endpoint)
        try:
            await self._exchange.start_simulator(
                address,
                simulator.user_id,
                simulator.initial_symbols,
                simulator.initial_cash,
                fence=_fence(owned.ownership),
            )
        except InvalidRequestError as error:
            await self._fail(owned, Step(Action.FAIL, error.message))
            return True
        except UnavailableError:
            again_in_s = self._attempts.failed(simulator.simulator_id, EXCHANGE_BACKOFF)
            self._queue.poke_later(simulator.simulator_id, again_in_s)
            return False
        row = await self._repository.running(owned, workload.endpoint)
        if row is None:
            await self._step_refused(owned, workload)
        else:
            self._metrics.simulator_creation_duration_seconds.observe(self._attempts.spent_s(row.simulator_id))
            self._metrics.simulator_operations_total.labels("create", "success").inc()
            self._attempts.forget(row.simulator_id)
            self._held[row.simulator_id] = OwnedSimulator(row, owned.ownership)
            self._announce(row)
        return True

    async def _beat(self, owned: OwnedSimulator) -> None:
        simulator = owned.simulator
        simulator_id = simulator.simulator_id
        if simulator.endpoint is None:
            await self._fail(owned, Step(Action.FAIL, "workload_gone"))
            return
        self._held[simulator_id] = owned
        try:
            address = self._address(simulator, simulator.endpoint)
            await self._exchange.heartbeat(address, fence=_fence(owned.ownership))
        except FencedError:
            raise
        except ExchangeStateLostError:
            await self._fail(owned, Step(Action.FAIL, "state_lost"))
        except SessionServiceError as error:
            first = self._silent_since.setdefault(simulator_id, self._clock())
            workload = await self._backend.get(simulator_id)
            step = after_failed_heartbeat(simulator, workload, self._clock() - first)
            log.warning("simulator_unresponsive", simulator_id=simulator_id, error=error.code, next_step=step.action)
            if step.action is Action.FAIL:
                await self._fail(owned, step)
            else:
                self._queue.poke_later(simulator_id, _SUSPECT_AGAIN_S)
        else:
            self._silent_since.pop(simulator_id, None)
            self._heartbeats.sent(simulator.session_id, owned.ownership.epoch)

    async def _keep_alive(self, owned: OwnedSimulator, limit: asyncio.Semaphore) -> None:
        simulator = owned.simulator
        if simulator.endpoint is None:
            return
        async with limit:
            try:
                address = self._address(simulator, simulator.endpoint)
                await self._exchange.heartbeat(address, fence=_fence(owned.ownership))
            except FencedError:
                # Another pod has it, and could write so: whatever keeps this one from PostgreSQL, it owns it no more.
                self._held.pop(simulator.simulator_id, None)
                log.warning("heartbeat_refused", simulator_id=simulator.simulator_id, epoch=owned.ownership.epoch)
            except SessionServiceError as error:
                log.debug("heartbeat_unanswered", simulator_id=simulator.simulator_id, code=error.code)

    async def _remove(self, owned: OwnedSimulator) -> bool:
        simulator = owned.simulator
        gone = await self._teardowns.take_down(
            simulator.simulator_id,
            simulator.session_id,
            simulator.endpoint,
            simulator.workload_uid,
            fence=_fence(owned.ownership),
        )
        if not gone:
            self._queue.poke_later(simulator.simulator_id, _SUSPECT_AGAIN_S)
            return False
        if owned.create_open_s:
            self._queue.poke_later(simulator.simulator_id, owned.create_open_s)
            return False
        row = await self._repository.stopped(owned)
        if row is not None:
            self._metrics.simulator_operations_total.labels("stop", "success").inc()
            self._announce(row)
        else:
            await self._write_refused(owned)
        return True

    async def _fail(self, owned: OwnedSimulator, step: Step) -> None:
        simulator = owned.simulator
        if await self._repository.fail(owned, step.reason or "failed"):
            log.warning("simulator_failed", simulator_id=simulator.simulator_id, reason=step.reason)
            self._metrics.simulator_operations_total.labels("create", "error").inc()
            failed = msgspec.structs.replace(
                simulator,
                status=SimulatorStatus.ERROR,
                reason=step.reason,
                changed_in=simulator.changed_in + 1,  # at least
            )
            self._events.simulator_changed(failed)
        else:
            await self._write_refused(owned)
        await self._teardowns.work_off()

    # --- helpers -----------------------------------------------------------------------------------------------

    def _announce(self, row: Simulator) -> None:
        log.info(
            "simulator_status", simulator_id=row.simulator_id, session_id=row.session_id, status=row.status.value
        )
        self._events.simulator_changed(row)

    def _spec(self, simulator: Simulator, database_id: str) -> WorkloadSpec:
        return WorkloadSpec(
            simulator_id=simulator.simulator_id,
            session_id=simulator.session_id,
            user_id=simulator.user_id,
            initial_symbols=simulator.initial_symbols,
            initial_cash=simulator.initial_cash,
            token=self._tokens.token(simulator.simulator_id),
            database_id=database_id,
        )

    def _address(self, simulator: Simulator, endpoint: str) -> SimulatorAddress:
        token = self._tokens.token(simulator.simulator_id)
        return SimulatorAddress(simulator.session_id, simulator.simulator_id, endpoint, token)

    def _demote(self, session_id: str) -> None:
        """The session is another pod's: nothing more is sent to its simulators from here."""
        for simulator_id, owned in list(self._held.items()):
            if owned.simulator.session_id == session_id:
                self._leave(simulator_id)

    def _leave(self, simulator_id: str) -> None:
        """It is another pod's to look after; sockets here may go on streaming from it."""
        self._held.pop(simulator_id, None)
        self._attempts.forget(simulator_id)
        self._silent_since.pop(simulator_id, None)

    def _forget(self, simulator_id: str) -> None:
        """It is at its end."""
        self._leave(simulator_id)
        self._exchange.forget(simulator_id)


def _pod_of(ownership: Ownership) -> str:
    assert ownership.pod_id is not None  # noqa: S101 - a step is only taken by an owner
    return ownership.pod_id


def _fence(ownership: Ownership) -> Fence:
    return Fence(ownership.epoch, _pod_of(ownership))
