"""Three pods, one PostgreSQL, and the memory of the simulators: who writes as an owner, when, and whether it may.

A world is driven by one random number generator, so a seed is a schedule. Statements wait in the middle because a
connection of the world holds the rows that they need; pods act on what they read long ago; replies get lost; claims
are rolled back, and forgotten by PostgreSQL. Triggers write down who owned a session when a write was committed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import asyncpg

from exchange_simulator.errors import OwnerFencedError
from exchange_simulator.fence import OwnerFence
from session_service.config import DatabaseSettings
from session_service.database.ownership import OwnershipRepository
from session_service.database.pods import PodRepository
from session_service.database.postgres import Postgres
from session_service.database.simulators import OwnedSimulator, SimulatorRepository
from session_service.database.sql_files import Queries
from session_service.domain.placement import Ownership, Standing, standing
from session_service.domain.simulator import SimulatorStatus
from session_service.errors import DatabaseUnavailableError
from session_service.telemetry.metrics import Metrics
from tests.support.sql import Sql

T = TypeVar("T")

# Deferred: they run when everything else of the transaction is done, and see every claim that is committed by then.
RECORDS = """
CREATE SCHEMA record;
CREATE TABLE record.writes (
    number BIGINT GENERATED ALWAYS AS IDENTITY, session_id TEXT, mark TEXT, pod_id TEXT, epoch BIGINT);
CREATE TABLE record.owners (
    number BIGINT GENERATED ALWAYS AS IDENTITY, session_id TEXT, pod_id TEXT, was_pod_id TEXT, epoch BIGINT,
    was_epoch BIGINT, is_restored BOOLEAN);

CREATE FUNCTION record.step() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO record.writes (session_id, mark, pod_id, epoch)
    SELECT NEW.session_id, CASE NEW.status
        WHEN 'STARTING' THEN NEW.workload_uid WHEN 'RUNNING' THEN NEW.endpoint WHEN 'ERROR' THEN NEW.reason
        ELSE NEW.simulator_id END, o.pod_id, o.epoch
    FROM session.ownership o WHERE o.session_id = NEW.session_id;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;
CREATE CONSTRAINT TRIGGER record AFTER UPDATE ON simulator.instances DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status IN ('STARTING', 'RUNNING', 'STOPPED', 'ERROR')
                       -- What was never created is stopped by whoever asks for it.
                       AND (NEW.status <> 'STOPPED' OR OLD.status = 'STOPPING')) EXECUTE FUNCTION record.step();

CREATE FUNCTION record.heartbeat() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO record.writes (session_id, mark, pod_id, epoch)
    SELECT NEW.session_id, NEW.metadata ->> 'last_simulator_heartbeat_sent', o.pod_id, o.epoch
    FROM session.ownership o WHERE o.session_id = NEW.session_id;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;
CREATE CONSTRAINT TRIGGER record AFTER UPDATE ON session.session_metadata DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.metadata ->> 'last_simulator_heartbeat_sent'
                       IS DISTINCT FROM OLD.metadata ->> 'last_simulator_heartbeat_sent')
    EXECUTE FUNCTION record.heartbeat();

CREATE FUNCTION record.owner() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO record.owners (session_id, pod_id, was_pod_id, epoch, was_epoch, is_restored)
    VALUES (NEW.session_id, NEW.pod_id, OLD.pod_id, NEW.epoch, OLD.epoch,
            current_setting('record.is_restored', TRUE) IS NOT DISTINCT FROM 'yes');
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;
CREATE TRIGGER record AFTER UPDATE ON session.ownership
    FOR EACH ROW WHEN (OLD.pod_id IS DISTINCT FROM NEW.pod_id OR OLD.epoch <> NEW.epoch)
    EXECUTE FUNCTION record.owner();
"""
HOLDS = (  # what the world's connection takes, so that statements wait in their middle
    "SELECT 1 FROM simulator.instances WHERE session_id = $1 FOR UPDATE NOWAIT",
    "SELECT 1 FROM simulator.instances WHERE session_id = $1 FOR UPDATE NOWAIT",
    "SELECT 1 FROM session.session_metadata WHERE session_id = $1 FOR UPDATE NOWAIT",
    "SELECT 1 FROM session.ownership WHERE session_id = $1 FOR UPDATE NOWAIT",
    "SELECT 1 FROM session.ownership WHERE session_id = $1 FOR SHARE NOWAIT",  # owners write on, claims wait
)
LOST = 0.15  # of the replies


class LostReplyError(Exception):
    """PostgreSQL did it, and nobody heard."""


class WorldPod:
    """A process with its own connections. ``beliefs``: session → the epoch under which it thinks that it owns it."""

    def __init__(self, name: str, settings: DatabaseSettings, queries: Queries) -> None:
        self.name = name
        self._postgres = Postgres(settings, Metrics())
        self.ownership = OwnershipRepository(self._postgres, queries)
        self.simulators = SimulatorRepository(self._postgres, queries)
        self.pods = PodRepository(self._postgres, queries)
        self.incarnation = 0
        self.beliefs: dict[str, int] = {}
        self.clock_off_s = 0
        self.busy: asyncio.Task[None] | None = None

    @property
    def pod_id(self) -> str:
        return f"{self.name}#{self.incarnation}"

    async def open(self) -> None:
        await self._postgres.open()

    async def close(self) -> None:
        await self._postgres.close()

    async def register(self) -> None:
        """Go on as a new incarnation, which owns nothing."""
        self.incarnation += 1
        self.beliefs.clear()
        await self.pods.register(self.pod_id, self.name, f"{self.name}:80", "1")

    async def take_socket(self, session_id: str) -> None:
        """The session's one client comes to this pod."""
        await self._postgres.execute(
            "INSERT INTO session.sockets (session_id, client_id, pod_id)"
            " SELECT $1, 'tab', pod_id FROM session.pods WHERE pod_id = $2"
            " ON CONFLICT (session_id, client_id) DO UPDATE SET pod_id = EXCLUDED.pod_id",
            session_id,
            self.pod_id,
        )


class OwnershipWorld:
    """One schedule. ``run`` makes it; ``violations`` says what went wrong, with ``trace`` to read beside it."""

    def __init__(
        self, seed: int, pods: Sequence[WorldPod], session_ids: Sequence[str], sql: Sql, watcher: Sql
    ) -> None:
        self._random = random.Random(seed)
        self._pods = pods
        self._session_ids = session_ids
        self._sql = sql  # holds locks, plays the standby
        self._watcher = watcher
        self._fence = OwnerFence()
        self._called: dict[tuple[str, int], set[str]] = {}  # session and epoch → pods whose calls were accepted
        self._writers: dict[str, set[tuple[str, int]]] = {}  # mark → who may have written it, and under which epoch
        self._marks = 0
        self._held_session = ""
        self._lost = LOST
        self._held: asyncpg.transaction.Transaction | None = None
        self.refused = 0
        self.accepted = 0
        self.trace: list[str] = []

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            idle = [pod for pod in self._pods if pod.busy is None or pod.busy.done()]
            if idle and self._random.random() < 0.75:
                pod = self._random.choice(idle)
                await self._finish(pod)
                act = self._act(pod, somebody_waits=self._held is not None and len(idle) < len(self._pods))
                session_id = self._place(pod, act)
                self.trace.append(f"{pod.pod_id} {act.__name__} {session_id}")
                pod.busy = asyncio.create_task(self._answered(act(self, pod, session_id)))
            elif self._held is None:
                await self._interfere()
            else:
                await self._let_go(commit=self._random.random() < 0.6)
            await self._until_all_wait()
        await self._let_go(commit=True)
        for pod in self._pods:
            await self._finish(pod)

    async def settle(self) -> None:
        """Everything works again: each pod beats, looks for the abandoned, and reads again what it owns."""
        self._lost = 0.0
        for pod in self._pods:
            beats = await pod.pods.beat(pod.pod_id)
            states = {state.pod_id: state for state in await pod.pods.all()}
            if not beats or states[pod.pod_id].draining:
                if pod.pod_id in states:
                    await pod.pods.declare_dead(pod.pod_id, states[pod.pod_id].beat)
                await pod.register()
        while await self._pods[0].pods.bury_sockets(100):
            pass
        for pod in self._pods:
            await pod.ownership.adopt(pod.pod_id, 100)
            await pod.ownership.claim(pod.pod_id, [])
        for pod in self._pods:
            for session_id in self._session_ids:
                await self._look(pod, session_id)
                await self._call_simulator(pod, session_id)
                await self._heartbeat(pod, session_id)

    async def violations(self) -> list[str]:
        """What must never be, and is."""
        found = [
            f"written by {self._writers[row['mark']]}: {dict(row)}"
            for row in await self._watcher.fetch("SELECT * FROM record.writes ORDER BY number")
            if (row["pod_id"], row["epoch"]) not in self._writers[row["mark"]]
        ]
        for row in await self._watcher.fetch("SELECT * FROM record.owners WHERE NOT is_restored ORDER BY number"):
            taken = row["pod_id"] is not None and row["pod_id"] != row["was_pod_id"]
            if row["epoch"] < row["was_epoch"] or (taken and row["epoch"] == row["was_epoch"]):
                found.append(f"an epoch that does not rise: {dict(row)}")
        found += [f"{pods} were both accepted under {key}" for key, pods in self._called.items() if len(pods) > 1]
        return found

    async def unsettled(self) -> list[str]:
        """Sessions that have not exactly one live owner, whose writes and calls are accepted, after ``settle``."""
        found = []
        for session_id in self._session_ids:
            owners = await self._watcher.fetch(
                "SELECT o.pod_id, o.epoch FROM session.ownership o JOIN session.pods p USING (pod_id)"
                " WHERE o.session_id = $1 AND NOT p.dead",
                session_id,
            )
            believers = [(pod.pod_id, pod.beliefs[session_id]) for pod in self._pods if session_id in pod.beliefs]
            if [tuple(owner) for owner in owners] != believers or len(believers) != 1:
                found.append(f"{session_id} has the owners {owners}, and {believers} think that they are")
            elif self._called.get((session_id, believers[0][1])) != {believers[0][0]}:
                found.append(f"{session_id}: no call of {believers} is accepted")
        return found

    # --- what a pod does -------------------------------------------------------------------------------------------

    async def _claim(self, pod: WorldPod, session_id: str) -> None:
        await self._taken(pod, lambda: pod.ownership.claim(pod.pod_id, [session_id]))

    async def _adopt(self, pod: WorldPod, _session_id: str) -> None:
        await self._taken(pod, lambda: pod.ownership.adopt(pod.pod_id, 2))

    async def _taken(self, pod: WorldPod, take: Callable[[], Awaitable[Sequence[Any]]]) -> None:
        pod_id = pod.pod_id
        for takeover in await self._heard(take):
            if pod.pod_id == pod_id:
                pod.beliefs[takeover.session_id] = takeover.epoch

    async def _look(self, pod: WorldPod, session_id: str) -> None:
        now = await pod.ownership.get(session_id)
        if now is not None and now.pod_id == pod.pod_id:
            pod.beliefs[session_id] = now.epoch
        else:
            pod.beliefs.pop(session_id, None)

    async def _beat(self, pod: WorldPod, _session_id: str) -> None:
        if not await pod.pods.beat(pod.pod_id):
            await pod.register()

    async def _declare_another_dead(self, pod: WorldPod, _session_id: str) -> None:
        """As if it had been frozen for long enough. It goes on with what it believes until it beats."""
        others = [state for state in await pod.pods.all() if state.pod_id != pod.pod_id and not state.dead]
        if len(others) > 1:
            state = self._random.choice(others)
            await pod.pods.declare_dead(state.pod_id, state.beat)

    async def _take_over(self, pod: WorldPod, session_id: str) -> None:
        """Its owner was seen to stand still for long enough, and this pod is the first to come."""
        now = await pod.ownership.get(session_id)
        for state in await pod.pods.all():
            if now is not None and state.pod_id == now.pod_id != pod.pod_id:
                await pod.pods.declare_dead(state.pod_id, state.beat)
        if self._random.random() < 0.4:
            while await pod.pods.bury_sockets(100):
                pass
            await self._adopt(pod, session_id)
        else:
            await self._claim(pod, session_id)

    async def _drain(self, pod: WorldPod, _session_id: str) -> None:
        await pod.pods.start_draining(pod.pod_id)
        await self._heard(lambda: pod.ownership.release(pod.pod_id, 10))

    async def _restart(self, pod: WorldPod, _session_id: str) -> None:
        await self._heard(lambda: pod.pods.leave(pod.pod_id))
        await pod.register()

    async def _move_socket(self, pod: WorldPod, session_id: str) -> None:
        await pod.take_socket(session_id)

    async def _start(self, pod: WorldPod, session_id: str) -> None:
        await self._heard(
            lambda: pod.simulators.request_start(self._mark(), session_id, "user", ["AAPL"], 1.0, 100, pod.pod_id)
        )

    async def _stop(self, pod: WorldPod, session_id: str) -> None:
        simulator = await pod.simulators.of_session(session_id)
        if simulator is not None:
            await pod.simulators.request_stop(simulator.simulator_id, "why")

    async def _call_simulator(self, pod: WorldPod, session_id: str) -> None:
        """Heartbeat, and going above what the simulator has seen where it refuses and PostgreSQL has this pod."""
        pod_id = pod.pod_id
        while (epoch := pod.beliefs.get(session_id)) is not None and pod.pod_id == pod_id:
            try:
                self._fence.admit(session_id, epoch, pod_id)
            except OwnerFencedError as error:
                raised = await self._heard(partial(pod.ownership.outrank, session_id, pod_id, error.highest_epoch))
                if pod.pod_id != pod_id:
                    return
                if raised is None:
                    pod.beliefs.pop(session_id, None)
                else:
                    pod.beliefs[session_id] = raised
            else:
                self._called.setdefault((session_id, epoch), set()).add(pod_id)
                return

    async def _heartbeat(self, pod: WorldPod, session_id: str) -> None:
        epoch = pod.beliefs.get(session_id)
        if epoch is None:
            return
        pod_id, at = pod.pod_id, 10_000 * int(self._mark()) + pod.clock_off_s
        self._writers[str(at)] = {(pod_id, epoch)}
        written = await self._heard(lambda: pod.ownership.heartbeats_sent(pod_id, {session_id: (epoch, at)}))
        await self._noted(pod, pod_id, session_id, epoch, bool(written))

    async def _step(self, pod: WorldPod, session_id: str) -> None:
        """The reconciler's next step, or now and then one that is out of place."""
        simulator = await pod.simulators.of_session(session_id)
        status = SimulatorStatus.STOPPED if simulator is None else simulator.status
        if self._random.random() < 0.2:
            status = self._random.choice([SimulatorStatus.RUNNING, *SimulatorStatus])
        simulators = pod.simulators
        match status:
            case SimulatorStatus.CREATING:
                await self._write(pod, session_id, lambda owned, mark: simulators.workload_created(owned, mark, None))
            case SimulatorStatus.STARTING:
                await self._write(pod, session_id, simulators.running)
            case SimulatorStatus.STOPPING:
                await self._write(pod, session_id, lambda owned, _mark: simulators.stopped(owned))
            case SimulatorStatus.RUNNING:
                await self._write(pod, session_id, simulators.fail)
            case _:
                await self._start(pod, session_id)

    async def _write(
        self, pod: WorldPod, session_id: str, write: Callable[[OwnedSimulator, str], Awaitable[object]]
    ) -> None:
        """A step of the reconciler, as the owner that the pod thinks it is, at whatever stands there now."""
        pod_id, epoch = pod.pod_id, pod.beliefs.get(session_id)
        simulator = await pod.simulators.of_session(session_id)
        if epoch is None or simulator is None:
            return
        owned = OwnedSimulator(simulator, Ownership(session_id, pod_id, epoch))
        mark = self._mark()
        for one in (mark, simulator.simulator_id):
            self._writers.setdefault(one, set()).add((pod_id, epoch))
        accepted = await self._heard(lambda: write(owned, mark))
        await self._noted(pod, pod_id, session_id, epoch, bool(accepted))

    async def _noted(self, pod: WorldPod, pod_id: str, session_id: str, epoch: int, accepted: bool) -> None:
        if accepted:
            self.accepted += 1
        elif standing(await pod.ownership.get(session_id), pod_id, epoch) is not Standing.KEPT:
            self.refused += 1
            if pod.beliefs.get(session_id) == epoch and self._random.random() < 0.5:
                pod.beliefs.pop(session_id)  # demoted; else it is too slow to notice

    async def _step_clock(self, pod: WorldPod, _session_id: str) -> None:
        pod.clock_off_s = self._random.choice([-3600, 0, 3600])

    _acts: tuple[tuple[Callable[[OwnershipWorld, WorldPod, str], Awaitable[None]], int], ...] = (
        (_claim, 8),
        (_take_over, 8),
        (_adopt, 3),
        (_look, 2),
        (_beat, 10),
        (_declare_another_dead, 1),
        (_drain, 1),
        (_restart, 1),
        (_move_socket, 2),
        (_start, 4),
        (_stop, 2),
        (_call_simulator, 5),
        (_heartbeat, 15),
        (_step, 30),
        (_step_clock, 1),
    )
    _acts_of_owners = frozenset({_call_simulator, _heartbeat, _step})

    def _act(
        self, pod: WorldPod, *, somebody_waits: bool
    ) -> Callable[[OwnershipWorld, WorldPod, str], Awaitable[None]]:
        """What a pod does next: where another waits in the middle of a statement, often something that fences it."""
        if somebody_waits and self._random.random() < 0.5:
            return OwnershipWorld._take_over
        if not pod.beliefs and self._random.random() < 0.7:
            return self._random.choice([OwnershipWorld._beat, OwnershipWorld._claim])
        return self._random.choices([act for act, _ in self._acts], [weight for _, weight in self._acts])[0]

    def _place(self, pod: WorldPod, act: object) -> str:
        """Mostly where statements wait, and for an owner's acts where the pod thinks that it is the owner."""
        choices: Sequence[str] = self._session_ids
        if act in self._acts_of_owners and pod.beliefs:
            choices = sorted(pod.beliefs)
        if self._held_session in choices and self._random.random() < 0.8:
            choices = [self._held_session]
        return self._random.choice(choices)

    # --- what happens to them --------------------------------------------------------------------------------------

    async def _interfere(self) -> None:
        """Make statements wait, by a lock or by a claim whose transaction stays open; or forget the last claims."""
        session_id = self._random.choice(self._session_ids)
        if self._random.random() < 0.2:
            await self._forget_claims(session_id)
            return
        transaction = self._sql.transaction()
        await transaction.start()
        try:
            if self._random.random() < 0.35:
                await self._sql.execute("SET LOCAL lock_timeout = '1ms'")
                pod = self._random.choice(self._pods)
                await self._sql.fetch("SELECT * FROM session.claim($1, ARRAY[$2])", pod.pod_id, session_id)
                self.trace.append(f"open claim of {session_id} by {pod.pod_id}")
            else:
                hold = self._random.choice(HOLDS)
                await self._sql.execute(hold, session_id)
                self.trace.append(f"{session_id}: {hold}")
        except asyncpg.LockNotAvailableError:
            await transaction.rollback()
        else:
            self._held, self._held_session = transaction, session_id

    async def _let_go(self, *, commit: bool) -> None:
        """A claim that is committed here is one whose reply was lost."""
        if self._held is not None:
            self.trace.append("committed" if commit else "rolled back")
            held, self._held, self._held_session = self._held, None, ""
            await (held.commit() if commit else held.rollback())

    async def _forget_claims(self, session_id: str) -> None:
        """A standby was promoted that lacked the last claims of this session."""
        try:
            async with self._sql.transaction():
                await self._sql.execute("SET LOCAL lock_timeout = '1ms'; SET LOCAL record.is_restored = 'yes'")
                restored = await self._sql.fetchrow(
                    "UPDATE session.ownership o SET pod_id = r.was_pod_id, epoch = r.was_epoch FROM ("
                    "  SELECT * FROM record.owners WHERE session_id = $1 ORDER BY number DESC LIMIT 3) r"
                    " WHERE o.session_id = $1 AND r.number = ("
                    "  SELECT min(number) FROM (SELECT number FROM record.owners WHERE session_id = $1"
                    "                           ORDER BY number DESC LIMIT $2) l)"
                    " AND (r.was_pod_id IS NULL OR EXISTS (SELECT 1 FROM session.pods WHERE pod_id = r.was_pod_id))"
                    " RETURNING o.*",
                    session_id,
                    self._random.randint(1, 3),
                )
        except asyncpg.LockNotAvailableError:
            return
        self.trace.append(f"restored {restored}")

    async def _until_all_wait(self) -> None:
        """Until each statement under way has ended or waits for a lock: then what comes next is the schedule's."""

        deadline_s = time.monotonic() + 5.0
        while under_way := [pod.busy for pod in self._pods if pod.busy is not None and not pod.busy.done()]:
            await asyncio.wait(under_way, timeout=0.003)
            waiting = await self._watcher.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if waiting >= sum(not task.done() for task in under_way):
                return
            assert time.monotonic() < deadline_s, self.trace

    async def _finish(self, pod: WorldPod) -> None:
        if pod.busy is not None:
            await pod.busy
            pod.busy = None

    async def _heard(self, call: Callable[[], Awaitable[T]]) -> T:
        answer = await call()
        if self._random.random() < self._lost:
            if self._random.random() < 0.5:
                return await call()  # repeated, as Postgres does where that is safe
            raise LostReplyError
        return answer

    async def _answered(self, act: Awaitable[None]) -> None:
        try:
            await act
        except (LostReplyError, DatabaseUnavailableError) as error:
            self.trace.append(f"  … {type(error).__name__}")

    def _mark(self) -> str:
        self._marks += 1
        return str(self._marks)
