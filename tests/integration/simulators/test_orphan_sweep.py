"""Workloads without row and teardown are found and removed, and nothing else is (docs/operations.md#orphans)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from session_service.domain.simulator import DEFAULT_CASH
from session_service.simulators.backend import Workload, WorkloadSpec
from session_service.simulators.orphans import FEW
from tests.support.installation import AT_REST_WITHIN_S, SYMBOLS, Installation, running_simulator
from tests.support.mishaps import Mishap
from tests.support.pod_parts import PodParts
from tests.support.workload_host import WorkloadHost

CONFIRM = "SELECT simulator.confirm_orphans()"
MANY = FEW + 1  # and more than a fifth of what is there


@pytest.fixture
async def pod(here: Installation) -> AsyncIterator[PodParts]:
    async with here.pod() as made:
        yield made


async def database_id(here: Installation) -> str:
    found: str = await here.sql.fetchval("SELECT database_id::text FROM session.installation")
    return found


async def place(here: Installation, simulator_id: str) -> Workload:
    """A workload of this installation that it knows nothing of, as after rows were lost."""
    spec = WorkloadSpec(
        simulator_id, f"of-{simulator_id}", "user-1", SYMBOLS, DEFAULT_CASH, "token", await database_id(here)
    )
    return here.host.place(here.label, spec)


async def orphans_removed(here: Installation) -> float:
    return float(here.metrics.orphans_removed_total.labels("workload")._value.get())


@pytest.mark.usefixtures("neighbour")
async def test_leftovers_are_removed_and_what_is_wanted_or_anothers_stays(here: Installation, pod: PodParts) -> None:
    running = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    for number in range(FEW):
        await place(here, f"left-{number}")
    await pod.orphans.sweep()
    assert list(here.host.workloads(here.label)) == [running.simulator_id]
    assert await orphans_removed(here) == FEW
    assert await here.unrest() == {}
    await pod.orphans.sweep()
    assert await orphans_removed(here) == FEW


@pytest.mark.parametrize("status", ["STOPPED", "ERROR"])
async def test_a_row_at_its_end_knows_of_no_workload(here: Installation, pod: PodParts, status: str) -> None:
    simulator = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    await here.sql.execute("UPDATE simulator.instances SET status = $1, target = 'STOPPED'", status)
    await pod.orphans.sweep()
    assert here.host.workloads(here.label) == {}
    assert await here.newest(simulator.session_id) == (status, None)


async def test_a_workload_that_is_being_created_is_nobodys_orphan(here: Installation, pod: PodParts) -> None:
    """Its row says CREATING: the create has arrived, and the pod that asked has not been told."""
    async with here.pod() as other:
        session_id = await other.open_session("user-1")
        other.calls.arm(Mishap.CRASH, "update_simulator_status")
        await other.simulators.create_simulator(session_id, "user-1", SYMBOLS, DEFAULT_CASH)
        await asyncio.wait_for(other.calls.happened.wait(), AT_REST_WITHIN_S)
    assert await here.newest(session_id) == ("CREATING", None)
    before = here.host.workloads(here.label)
    assert len(before) == 1
    await pod.orphans.sweep()
    assert here.host.workloads(here.label) == before


async def test_one_that_is_created_after_the_look_at_the_platform_is_not_taken_for_one(
    here: Installation, pod: PodParts
) -> None:
    """And one that was removed after it, with its row, is not looked for again: the platform is asked once more."""
    leaving = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    async with here.pod() as sweeping:
        sweeping.calls.arm(Mishap.FROZEN, "list_known_workloads")
        sweep = asyncio.create_task(sweeping.orphans.sweep())
        await asyncio.wait_for(sweeping.calls.happened.wait(), AT_REST_WITHIN_S)
        await here.sql.execute("DELETE FROM session.active_sessions")
        await pod.teardowns.work_off()
        coming = await running_simulator(pod, await pod.open_session("user-2"), "user-2")
        sweeping.calls.thaw()
        await asyncio.wait_for(sweep, AT_REST_WITHIN_S)
    assert list(here.host.workloads(here.label)) == [coming.simulator_id]
    assert leaving.simulator_id not in here.host.workloads(here.label)
    assert await orphans_removed(here) == 0


async def test_a_teardown_that_waits_for_its_lease_is_no_second_orphan(here: Installation, pod: PodParts) -> None:
    await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    await here.sql.execute("DELETE FROM session.active_sessions")
    await here.sql.execute("UPDATE simulator.teardowns SET leased_until = now() + interval '1 h'")
    await pod.orphans.sweep()
    assert await orphans_removed(here) == 0
    assert len(here.host.workloads(here.label)) == 1


async def test_too_many_at_once_are_held_until_somebody_confirms_those(here: Installation, pod: PodParts) -> None:
    """As after a restore from an old backup: the rows are missing, not the users."""
    running = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    for number in range(MANY):
        await place(here, f"left-{number}")
    for _ in range(2):
        with capture_logs() as logs:
            await pod.orphans.sweep()
        [line] = [line for line in logs if line["event"] == "orphans_held"]
        assert (line["log_level"], line["orphans"], line["workloads"]) == ("error", MANY, MANY + 1)
        assert line["confirm"] == CONFIRM
        await pod.orphans.measure()
        assert here.metrics.orphans_held._value.get() == MANY
    assert len(here.host.workloads(here.label)) == MANY + 1
    held = await here.sql.fetch("SELECT simulator_id, session_id, found_at FROM simulator.held_orphans")
    assert {row["simulator_id"] for row in held} == {f"left-{number}" for number in range(MANY)}
    assert {row["session_id"] for row in held} == {f"of-left-{number}" for number in range(MANY)}

    assert await here.sql.fetchval(CONFIRM) == MANY
    late = await place(here, "found later")  # nobody has said a word of it
    await pod.orphans.sweep()
    assert here.host.workloads(here.label) == {
        running.simulator_id: running.workload_uid,
        late.simulator_id: late.uid,
    }
    assert await orphans_removed(here) == MANY
    await pod.orphans.measure()
    assert here.metrics.orphans_held._value.get() == 1
    await pod.orphans.sweep()  # alone it is few
    assert list(here.host.workloads(here.label)) == [running.simulator_id]
    assert await here.sql.fetchval("SELECT count(*) FROM simulator.held_orphans") == 0


async def test_rows_that_come_back_free_their_workloads(here: Installation, pod: PodParts) -> None:
    """The operator restores the rows instead of confirming."""
    placed = [await place(here, f"left-{number}") for number in range(MANY)]
    await pod.orphans.sweep()
    await pod.open_session("user-1")
    for workload in placed:
        session_id = await pod.open_session(f"user-of-{workload.simulator_id}")
        await here.sql.execute(
            "INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, workload_uid, endpoint)"
            " VALUES ($1, $2, 'user', 'RUNNING', $3, $4)",
            workload.simulator_id,
            session_id,
            workload.uid,
            workload.endpoint,
        )
    await pod.orphans.sweep()
    assert await here.sql.fetchval("SELECT count(*) FROM simulator.held_orphans") == 0
    assert await here.sql.fetchval(CONFIRM) == 0
    assert len(here.host.workloads(here.label)) == MANY


async def test_two_pods_that_sweep_at_once_do_no_harm(here: Installation, pod: PodParts, host: WorkloadHost) -> None:
    running = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    for number in range(FEW):
        await place(here, f"left-{number}")
    async with here.pod() as other:
        await asyncio.gather(pod.orphans.sweep(), other.orphans.sweep())
        await here.brought_to_rest_by(other)
    assert list(host.workloads(here.label)) == [running.simulator_id]


async def test_a_workload_that_came_in_anothers_place_is_removed_before_its_simulator_is_gone(
    here: Installation, pod: PodParts
) -> None:
    """The recorded one vanished, and a late create made another under its id: the teardown would not touch it."""
    simulator = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    here.host.remove(here.label, simulator.simulator_id, None)
    await place(here, simulator.simulator_id)
    await here.sql.execute("DELETE FROM session.active_sessions")
    await pod.orphans.sweep()
    await here.time_passes()
    await pod.teardowns.work_off()
    assert here.host.workloads(here.label) == {}
    assert await here.unrest() == {}
