"""A mishap at every call that a pod makes: whatever it is, the workloads end up as the rows say (docs/lifecycle.md).

One pod carries out an operation and something happens at its k-th statement, backend call or gRPC call, for every k.
Where that takes the pod, another one takes over. Then everything has to come to rest, without anybody's help.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import msgspec
import pytest

from session_service.config import Settings
from session_service.config import load as load_settings
from session_service.database.postgres import Postgres
from session_service.database.sql_files import load_queries
from session_service.domain.simulator import DEFAULT_CASH, Simulator, SimulatorStatus
from session_service.errors import SessionNotFoundError
from session_service.telemetry.metrics import Metrics
from tests.support.invariants import violations
from tests.support.mishaps import Mishap
from tests.support.pod_parts import PodParts, identity
from tests.support.servers import Database, TestServers
from tests.support.service import SECRET_KEY
from tests.support.sql import Sql
from tests.support.workload_host import FAILS_ON_THIS_PLATFORM, WorkloadHost, hosting

SYMBOLS = ("AAPL",)
AT_REST_WITHIN_S = 10.0
FEWEST_CALLS = 3
REFUSAL = "'no symbol' is not a symbol (1 to 16 of A-Z, 0-9, dot and hyphen)"
MORE_CALLS_THAN_ANY_OPERATION_MAKES = 200


class Installation:
    """One database and its pods over a host that it may share; ``label`` is on its workloads."""

    def __init__(self, label: str, settings: Settings, host: WorkloadHost, postgres: Postgres, sql: Sql) -> None:
        self.label = label
        self.host = host
        self.sql = sql
        self._settings = settings
        self._postgres = postgres
        self._queries = load_queries()
        self._metrics = Metrics()
        self._numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def pod(self) -> AsyncIterator[PodParts]:
        pod = PodParts(
            f"pod-{next(self._numbers)}",
            self._settings,
            self._postgres,
            self._queries,
            self.host.backend(self.label),
            self._metrics,
        )
        await pod.register()
        try:
            yield pod
        finally:
            await pod.close()

    async def declare_dead(self, pod: PodParts) -> None:
        """As after its lease; those of the teardowns that it held run out too."""
        await self.sql.execute("UPDATE session.pods SET dead = TRUE, died_at = now() WHERE pod_id = $1", pod.pod_id)

    async def leases_run_out(self) -> None:
        await self.sql.execute("UPDATE simulator.teardowns SET leased_until = '-infinity'")

    async def unrest(self) -> dict[str, object]:
        """What is still to come about, or will never: rows against workloads against states at exchanges."""
        rows = await self.sql.fetch("SELECT simulator_id, status, target, workload_uid FROM simulator.instances")
        wanted = {row["simulator_id"]: row["workload_uid"] for row in rows if row["target"] == "RUNNING"}
        workloads = self.host.workloads(self.label)
        states = self.host.states(self.label)
        found: dict[str, object] = {
            "on their way": [tuple(row) for row in rows if row["status"] in {"CREATING", "STARTING", "STOPPING"}],
            "sessions that have run out": [
                tuple(row)
                for row in await self.sql.fetch(
                    "SELECT session_id FROM session.active_sessions WHERE expires_at < now()"
                )
            ],
            "teardowns": [tuple(row) for row in await self.sql.fetch("SELECT simulator_id FROM simulator.teardowns")],
            "rows without a workload": sorted(wanted.items() - workloads.items()),
            "workloads without a row": sorted(workloads.items() - wanted.items()),
            "running without a state": sorted(wanted.keys() - states.keys()),
            "states that nobody runs": sorted(states.keys() - wanted.keys()),
        }
        if found["teardowns"]:
            await self.leases_run_out()
        return {name: what for name, what in found.items() if what}

    async def _column(self, query: str) -> list[str]:
        return [row[0] for row in await self.sql.fetch(query)]

    async def at_rest(self) -> bool:
        return not await self.unrest()

    async def brought_to_rest_by(self, pod: PodParts) -> None:
        """``pod`` makes its rounds, one at least, until everything is as it should be."""
        deadline = asyncio.get_running_loop().time() + AT_REST_WITHIN_S
        while True:
            await pod.round()
            await pod.quiet()
            if not (unrest := await self.unrest()):
                return
            assert asyncio.get_running_loop().time() < deadline, unrest

    async def is_sound(self) -> None:
        broken = await violations(self.sql)
        assert not broken, broken

    async def newest(self, session_id: str) -> tuple[str, str | None] | None:
        """Status and reason of the session's newest simulator."""
        row = await self.sql.fetchrow(
            "SELECT status, reason FROM simulator.instances WHERE session_id = $1 ORDER BY created_at DESC LIMIT 1",
            session_id,
        )
        return None if row is None else (row["status"], row["reason"])


@contextlib.asynccontextmanager
async def installation(database: Database, host: WorkloadHost) -> AsyncIterator[Installation]:
    settings = load_settings(
        {**database.environ(), "SECRET_KEY": SECRET_KEY, "SIMULATOR_BACKEND": "process"}
    ).settings
    postgres = Postgres(settings.database, Metrics())
    await postgres.open()
    sql = await asyncpg.connect(database.owner_dsn)
    try:
        yield Installation(database.name, settings, host, postgres, sql)
    finally:
        await sql.close()
        await postgres.close()


async def running_simulator(pod: PodParts, session_id: str, user_id: str) -> Simulator:
    simulator, _ = await pod.simulators.create_simulator(session_id, user_id, SYMBOLS, DEFAULT_CASH)
    await pod.quiet()
    started = await pod.simulators.get(simulator.simulator_id, user_id)
    assert started is not None
    assert started.status is SimulatorStatus.RUNNING, started
    return started


class Case(msgspec.Struct):
    """What an operation is made on."""

    here: Installation
    session_id: str
    user_id: str
    simulator: Simulator | None = None  # that ran before
    epoch: int | None = None  # of its state


Prepare = Callable[[PodParts, Case], Awaitable[None]]
Operate = Callable[[PodParts, Case], Awaitable[object]]


async def nothing(_pod: PodParts, _case: Case) -> None:
    """The session is all there is."""


async def run(pod: PodParts, case: Case) -> None:
    case.simulator = await running_simulator(pod, case.session_id, case.user_id)
    case.epoch = case.here.host.states(case.here.label)[case.simulator.simulator_id]


async def start(pod: PodParts, case: Case) -> None:
    await pod.simulators.create_simulator(case.session_id, case.user_id, SYMBOLS, DEFAULT_CASH)


async def start_what_the_exchange_refuses(pod: PodParts, case: Case) -> None:
    await pod.simulators.create_simulator(case.session_id, case.user_id, ("no symbol",), DEFAULT_CASH)


async def start_what_the_platform_cannot(pod: PodParts, case: Case) -> None:
    await pod.simulators.create_simulator(case.session_id, case.user_id, (FAILS_ON_THIS_PLATFORM,), DEFAULT_CASH)


async def stop(pod: PodParts, case: Case) -> None:
    assert case.simulator is not None
    await pod.simulators.stop_simulator(case.simulator.simulator_id, "stopped_by_user")


async def stop_and_start(pod: PodParts, case: Case) -> None:
    await stop(pod, case)
    await start(pod, case)


async def start_and_stop(pod: PodParts, case: Case) -> None:
    simulator, _ = await pod.simulators.create_simulator(case.session_id, case.user_id, SYMBOLS, DEFAULT_CASH)
    await pod.simulators.stop_simulator(simulator.simulator_id, "stopped_by_user")


async def start_and_end_session(pod: PodParts, case: Case) -> None:
    await start(pod, case)
    await end_session(pod, case)


async def end_session(pod: PodParts, case: Case) -> None:
    await pod.sessions.end(identity(case.user_id), case.session_id)
    await pod.reconciler.tear_down()


async def run_out(pod: PodParts, case: Case) -> None:
    await run(pod, case)
    await case.here.sql.execute(
        "UPDATE session.active_sessions SET expires_at = now() - interval '1 minute' WHERE session_id = $1",
        case.session_id,
    )


async def expire(pod: PodParts, _case: Case) -> None:
    await pod.round()


async def clean_up_by_hand(pod: PodParts, case: Case) -> None:
    await case.here.sql.execute("SELECT session.cleanup_expired_sessions()")
    await pod.reconciler.tear_down()


async def be_left_while_starting(_pod: PodParts, case: Case) -> None:
    """Another pod had it created the workload, and died before it could call it."""
    here = case.here
    async with here.pod() as former:
        await here.sql.execute(
            "UPDATE session.ownership SET pod_id = $1, epoch = epoch + 1 WHERE session_id = $2",
            former.pod_id,
            case.session_id,
        )
        former.calls.arm(Mishap.CRASH, "start_simulator")
        await start(former, case)
        await asyncio.wait_for(former.calls.happened.wait(), AT_REST_WITHIN_S)
    await here.declare_dead(former)
    assert await here.newest(case.session_id) == ("STARTING", None)


async def adopt(pod: PodParts, _case: Case) -> None:
    await pod.ownership.adopt()


async def lose_state(pod: PodParts, case: Case) -> None:
    await run(pod, case)
    assert case.simulator is not None
    case.here.host.restart_container(case.simulator.simulator_id)


async def beat(pod: PodParts, _case: Case) -> None:
    await pod.reconciler.beat()


ENDED = None  # there is no session any more, and nothing of its simulators
OPERATIONS: dict[str, tuple[Prepare, Operate, set[tuple[str, str | None] | None]]] = {
    # What comes before, what is done, and how the newest simulator may stand afterwards where it was done or refused.
    "create": (nothing, start, {("RUNNING", None), ENDED}),
    "stop": (run, stop, {("STOPPED", "stopped_by_user"), ("RUNNING", None)}),
    "start over stopping": (run, stop_and_start, {("RUNNING", None), ("STOPPED", "stopped_by_user")}),
    "stop of a start": (nothing, start_and_stop, {("STOPPED", "stopped_by_user"), ("RUNNING", None), ENDED}),
    "end while starting": (nothing, start_and_end_session, {ENDED, ("RUNNING", None)}),
    "end of the session": (run, end_session, {ENDED, ("RUNNING", None)}),
    "expiry": (run_out, expire, {ENDED}),
    "cleanup by hand": (run_out, clean_up_by_hand, {ENDED}),
    "adoption while starting": (be_left_while_starting, adopt, {("RUNNING", None)}),
    "a start that the exchange refuses": (nothing, start_what_the_exchange_refuses, {("ERROR", REFUSAL), ENDED}),
    "a start that the platform cannot": (
        nothing,
        start_what_the_platform_cannot,
        {("ERROR", "image_not_found"), ENDED},
    ),
    "a container that restarts": (lose_state, beat, {("ERROR", "state_lost")}),
}


async def creates_what_nobody_wants(pod: PodParts, case: Case) -> bool:
    """Is the pod's last call a create whose simulator came to its end? See the test of that below."""
    newest = await case.here.newest(case.session_id)
    return pod.calls.names[-1] == "create" and (newest is None or newest[0] != "RUNNING")


async def meet(here: Installation, survivor: PodParts, name: str, mishap: Mishap, number: int) -> bool:
    """One pod carries ``name`` out, and has ``mishap`` at its call of this number. False: it made fewer calls."""
    prepare, operate, outcomes = OPERATIONS[name]
    async with here.pod() as pod:
        case = Case(here, await pod.open_session(f"user-{name}"), f"user-{name}")
        await prepare(pod, case)
        pod.calls.arm(mishap, number)
        driving = asyncio.create_task(pod.drive(lambda pod: operate(pod, case), here.at_rest))
        try:
            met = asyncio.create_task(pod.calls.happened.wait())
            async with asyncio.timeout(AT_REST_WITHIN_S):
                await asyncio.wait({driving, met}, return_when=asyncio.FIRST_COMPLETED)
            met.cancel()
            happened = pod.calls.happened.is_set()
            if happened and mishap.takes_the_pod:
                await pod.calls.carried_out()
                await here.declare_dead(pod)
                await here.brought_to_rest_by(survivor)
                if not await creates_what_nobody_wants(pod, case):
                    await pod.calls.deliver_late()
                if mishap is Mishap.FROZEN:
                    pod.calls.thaw()
                    async with asyncio.timeout(AT_REST_WITHIN_S):
                        while not driving.done():
                            await survivor.round()
                            await survivor.quiet()
                    await driving
                await here.brought_to_rest_by(survivor)
            else:
                await asyncio.wait_for(driving, AT_REST_WITHIN_S)
            await here.is_sound()
            newest = await here.newest(case.session_id)
            assert newest in outcomes, newest
            if case.simulator is not None and newest == ("RUNNING", None):
                epochs = here.host.states(here.label)
                assert epochs.get(case.simulator.simulator_id, case.epoch) == case.epoch, "another market"
            with contextlib.suppress(SessionNotFoundError):
                await survivor.sessions.end(identity(case.user_id), case.session_id)
            await here.brought_to_rest_by(survivor)
            assert here.host.workloads(here.label) == {}
            assert here.host.overlaps == []
        except Exception as error:
            error.add_note(f"{name}: {mishap} at call {number} of {pod.calls.names}")
            raise
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
        return happened


@pytest.fixture
async def host() -> AsyncIterator[WorkloadHost]:
    async with hosting() as made:
        yield made


@pytest.fixture
async def here(database: Database, host: WorkloadHost) -> AsyncIterator[Installation]:
    async with installation(database, host) as made:
        yield made


@pytest.fixture
async def neighbour(servers: TestServers, host: WorkloadHost) -> AsyncIterator[Installation]:
    """A second installation on the same host, with a pod that runs a simulator: nothing of it may be touched."""
    database = await servers.create_database()
    async with installation(database, host) as beside, beside.pod() as pod:
        simulator = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
        workloads, states = host.workloads(beside.label), host.states(beside.label)
        assert list(states) == [simulator.simulator_id]
        yield beside
        await beside.brought_to_rest_by(pod)
        assert (host.workloads(beside.label), host.states(beside.label)) == (workloads, states)
        assert await beside.newest(simulator.session_id) == ("RUNNING", None)
    await servers.drop_database(database)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.usefixtures("neighbour")
async def test_whatever_happens_at_any_call_everything_comes_to_rest(here: Installation, name: str) -> None:
    async with here.pod() as survivor:
        for mishap in Mishap:
            for number in range(1, MORE_CALLS_THAN_ANY_OPERATION_MAKES):
                if not await meet(here, survivor, name, mishap, number):
                    assert number > FEWEST_CALLS, "the mishap has to meet the operation"
                    break


@pytest.mark.xfail(
    strict=True,
    reason="a workload counts as gone as soon as it is not found, also while a create of it may still arrive",
)
async def test_a_workload_that_arrives_after_its_simulators_end_is_removed(here: Installation) -> None:
    """The pod that asked for it is gone as well, so that nobody waits for the answer."""
    async with here.pod() as survivor, here.pod() as pod:
        case = Case(here, await pod.open_session("user-1"), "user-1")
        pod.calls.arm(Mishap.LATE, "create")
        await start(pod, case)
        await asyncio.wait_for(pod.calls.happened.wait(), AT_REST_WITHIN_S)
        await here.declare_dead(pod)
        await survivor.sessions.end(identity(case.user_id), case.session_id)
        await here.brought_to_rest_by(survivor)
        await pod.calls.deliver_late()
        assert here.host.workloads(here.label)
        for _ in range(5):
            await survivor.round()
        assert here.host.workloads(here.label) == {}
