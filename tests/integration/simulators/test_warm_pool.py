"""Spares: kept at their number, taken by starts, and never left over (docs/lifecycle.md#spares)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from session_service.domain.simulator import DEFAULT_CASH, SimulatorStatus
from tests.support.installation import AT_REST_WITHIN_S, SYMBOLS, Installation, installation, running_simulator
from tests.support.mishaps import Mishap
from tests.support.pod_parts import PodParts, identity
from tests.support.servers import Database
from tests.support.waiting import eventually
from tests.support.workload_host import WorkloadHost

SIZE = 3


@pytest.fixture
async def here(database: Database, host: WorkloadHost) -> AsyncIterator[Installation]:
    async with installation(database, host, SIMULATOR_WARM_POOL_SIZE=str(SIZE)) as made:
        yield made


@pytest.fixture
async def pod(here: Installation) -> AsyncIterator[PodParts]:
    async with here.pod() as made:
        await here.brought_to_rest_by(made)
        yield made


async def starts(here: Installation, source: str) -> float:
    return here.metrics.registry.get_sample_value("session_simulator_starts_total", {"source": source}) or 0.0


@pytest.mark.usefixtures("neighbour")
async def test_a_start_takes_a_spare_and_another_one_takes_its_place(here: Installation, pod: PodParts) -> None:
    before = await here.spares()
    assert len(before) == SIZE
    assert here.host.workloads(here.label) == before
    session_id = await pod.open_session("user-1")
    asked, is_new = await pod.simulators.create_simulator(session_id, "user-1", ("MSFT",), 500.0)
    assert is_new
    assert (asked.status, asked.workload_uid) == (SimulatorStatus.STARTING, before[asked.simulator_id])
    metadata = await here.sql.fetchval(
        "SELECT metadata FROM session.session_metadata WHERE session_id = $1", session_id
    )
    assert asked.simulator_id in metadata
    again, is_new = await pod.simulators.create_simulator(session_id, "user-1", ("MSFT",), 500.0)
    assert (again.simulator_id, is_new) == (asked.simulator_id, False)
    running = await running_simulator(pod, session_id, "user-1")
    assert running.simulator_id == asked.simulator_id
    assert running.initial_symbols == ("MSFT",)
    workload = here.host.find(here.label, asked.simulator_id)
    assert workload is not None
    assert workload.session_id == session_id
    await here.brought_to_rest_by(pod)
    after = await here.spares()
    assert len(after) == SIZE
    assert before.keys() - after.keys() == {asked.simulator_id}
    assert (await starts(here, "pool"), await starts(here, "created")) == (1, 0)
    await here.is_sound()


async def test_what_was_taken_never_comes_back(here: Installation, pod: PodParts) -> None:
    session_id = await pod.open_session("user-1")
    simulator = await running_simulator(pod, session_id, "user-1")
    await pod.sessions.end(identity("user-1"), session_id)
    await here.brought_to_rest_by(pod)
    assert simulator.simulator_id not in here.host.workloads(here.label)
    assert simulator.simulator_id not in await here.spares()


async def test_a_start_over_one_that_is_stopping_waits_for_its_end_and_takes_no_spare(
    here: Installation, pod: PodParts
) -> None:
    session_id = await pod.open_session("user-1")
    first = await running_simulator(pod, session_id, "user-1")
    await pod.simulators.stop_simulator(first.simulator_id, "stopped_by_user")
    second, _ = await pod.simulators.create_simulator(session_id, "user-1", SYMBOLS, DEFAULT_CASH)
    assert second.status is SimulatorStatus.CREATING
    await here.brought_to_rest_by(pod)
    assert await here.newest(session_id) == ("RUNNING", None)
    assert here.host.overlaps == []
    assert await starts(here, "created") == 1


async def test_fifty_starts_at_once_take_each_spare_once(here: Installation, pod: PodParts) -> None:
    spares = await here.spares()
    users = [f"user-{number}" for number in range(50)]
    sessions = [await pod.open_session(user) for user in users]
    asked = await asyncio.gather(
        *(
            pod.simulators.create_simulator(session_id, user, SYMBOLS, DEFAULT_CASH)
            for session_id, user in zip(sessions, users, strict=True)
        )
    )
    assert all(is_new for _, is_new in asked)
    ids = [simulator.simulator_id for simulator, _ in asked]
    assert len(set(ids)) == len(ids)
    assert spares.keys() <= set(ids)
    assert await starts(here, "pool") == SIZE
    await here.brought_to_rest_by(pod)
    await here.is_sound()


async def test_a_request_made_again_after_a_lost_reply_knows_its_own(here: Installation, pod: PodParts) -> None:
    session_id = await pod.open_session("user-1")
    pod.calls.arm(Mishap.TWICE, "create_simulator")
    asked, is_new = await pod.simulators.create_simulator(session_id, "user-1", SYMBOLS, DEFAULT_CASH)
    assert is_new
    assert asked.status is SimulatorStatus.STARTING
    await here.brought_to_rest_by(pod)
    assert await starts(here, "pool") == 1


@pytest.mark.parametrize("gone", [True, False])
async def test_a_spare_that_died_before_it_was_looked_at_costs_time_and_not_the_start(
    here: Installation, pod: PodParts, gone: bool
) -> None:
    """Its workload has gone, or stands there and has failed."""
    session_id = await pod.open_session("user-1")
    async with here.pod() as crashing:
        await here.sql.execute(
            "UPDATE session.ownership SET pod_id = $1, epoch = epoch + 1 WHERE session_id = $2",
            crashing.pod_id,
            session_id,
        )
        crashing.calls.arm(Mishap.CRASH, "get_simulator")
        asked, _ = await crashing.simulators.create_simulator(session_id, "user-1", SYMBOLS, DEFAULT_CASH)
        await asyncio.wait_for(crashing.calls.happened.wait(), AT_REST_WITHIN_S)
    await here.declare_dead(crashing)
    if gone:
        here.host.lose(asked.simulator_id)
    else:
        here.host.fail(asked.simulator_id)
    await here.brought_to_rest_by(pod)
    assert await here.newest(session_id) == ("RUNNING", None)
    row = await here.sql.fetchrow(
        "SELECT simulator_id, workload_uid, was_spare FROM simulator.instances WHERE session_id = $1", session_id
    )
    assert row is not None
    assert row["simulator_id"] == asked.simulator_id
    assert row["workload_uid"] != asked.workload_uid
    assert not row["was_spare"]
    replaced = {"operation": "replace", "status": "success"}
    assert here.metrics.registry.get_sample_value("session_simulator_operations_total", replaced) == 1
    await here.is_sound()


async def test_spares_whose_workloads_went_are_made_up_for(here: Installation, pod: PodParts) -> None:
    before = await here.spares()
    lost, *kept = before
    here.host.lose(lost)
    await pod.warm_pool.inspect()
    assert (await here.spares()).keys() == set(kept)
    await here.brought_to_rest_by(pod)
    assert set(kept) < (await here.spares()).keys()


async def test_one_that_is_taken_during_the_inspection_is_left_to_its_simulator(
    here: Installation, pod: PodParts
) -> None:
    """The platform was asked, and said that it has gone; before the row goes, a start takes it."""
    session_id = await pod.open_session("user-1")
    for spare in await here.spares():
        here.host.lose(spare)
    async with here.pod() as inspecting:
        inspecting.calls.arm(Mishap.FROZEN, "remove_spare")
        inspection = asyncio.create_task(inspecting.warm_pool.inspect())
        await asyncio.wait_for(inspecting.calls.happened.wait(), AT_REST_WITHIN_S)
        asked, _ = await pod.simulators.create_simulator(session_id, "user-1", SYMBOLS, DEFAULT_CASH)
        inspecting.calls.thaw()
        await asyncio.wait_for(inspection, AT_REST_WITHIN_S)
        assert await here.sql.fetchval("SELECT count(*) FROM simulator.teardowns") < SIZE
    await here.brought_to_rest_by(pod)
    assert await here.newest(session_id) == ("RUNNING", None)
    assert asked.simulator_id in here.host.workloads(here.label)


async def test_a_smaller_pool_gives_up_what_is_too_much(
    here: Installation, pod: PodParts, database: Database, host: WorkloadHost
) -> None:
    oldest = await here.sql.fetchval("SELECT simulator_id FROM simulator.warm_pool ORDER BY created_at LIMIT 1")
    async with installation(database, host, SIMULATOR_WARM_POOL_SIZE="1") as smaller, smaller.pod() as one:
        await smaller.brought_to_rest_by(one)
        assert list(await smaller.spares()) == list(host.workloads(here.label)) == [oldest]
    async with installation(database, host) as without, without.pod() as none:
        await none.warm_pool.refill()
        await without.brought_to_rest_by(none)
        assert host.workloads(here.label) == {}


async def test_spares_of_another_recipe_are_not_taken_and_replaced(here: Installation, pod: PodParts) -> None:
    before = await here.spares()
    await here.sql.execute("UPDATE simulator.warm_pool SET recipe = 'of the release before'")
    asked, _ = await pod.simulators.create_simulator(
        await pod.open_session("user-1"), "user-1", SYMBOLS, DEFAULT_CASH
    )
    assert asked.status is SimulatorStatus.CREATING
    await here.brought_to_rest_by(pod)
    assert not (await here.spares()).keys() & before.keys()


async def test_two_pods_that_refill_at_once_make_no_more_than_there_are_to_be(here: Installation) -> None:
    async with here.pod() as one, here.pod() as other:
        for _ in range(3):
            await asyncio.gather(one.warm_pool.refill(), other.warm_pool.refill(), one.warm_pool.inspect())
            await asyncio.gather(other.warm_pool.inspect(), one.warm_pool.refill(), other.warm_pool.refill())
        assert len(here.host.workloads(here.label)) == SIZE
        assert await here.unrest() == {}


async def test_the_last_pod_takes_the_spares_along_and_one_of_several_leaves_them(
    here: Installation, pod: PodParts
) -> None:
    async with here.pod() as leaving:
        await leaving._pods.start_draining(leaving.pod_id)
        assert await leaving.simulators.stop_as_last("pod_terminated", 1.0) == 0
        await leaving._pods.leave(leaving.pod_id)
    assert len(here.host.workloads(here.label)) == SIZE
    await pod._pods.start_draining(pod.pod_id)
    assert await pod.simulators.stop_as_last("pod_terminated", AT_REST_WITHIN_S) == 0
    assert here.host.workloads(here.label) == {}
    await pod.warm_pool.refill()  # a round that was under way
    assert await here.spares() == {}


async def test_a_spare_that_is_being_created_as_the_last_pod_leaves_goes_too(here: Installation) -> None:
    async with here.pod() as pod:
        pod.calls.arm(Mishap.FROZEN, "create")
        refill = asyncio.create_task(pod.warm_pool.refill())
        await asyncio.wait_for(pod.calls.happened.wait(), AT_REST_WITHIN_S)
        async with here.pod() as last:
            await here.declare_dead(pod)
            assert await last.simulators.stop_as_last("pod_terminated", 0.0) > 0  # what may still come is waited for
            pod.calls.thaw()
            await asyncio.wait_for(refill, AT_REST_WITHIN_S)
            assert await last.simulators.stop_as_last("pod_terminated", AT_REST_WITHIN_S) == 0
    assert here.host.workloads(here.label) == {}
    assert await here.spares() == {}


async def test_spares_take_only_slots_that_no_user_waits_for(database: Database, host: WorkloadHost) -> None:
    async with (
        installation(database, host, SIMULATOR_WARM_POOL_SIZE="4", SIMULATOR_MAX_CONCURRENT_STARTS="2") as here,
        here.pod() as pod,
    ):
        async with here.pod() as asking:
            session_id = await asking.open_session("user-1")
            asking.calls.arm(Mishap.CRASH, "get_simulator")  # nobody looks at its simulator after this
            await asking.simulators.create_simulator(session_id, "user-1", SYMBOLS, DEFAULT_CASH)
            await asyncio.wait_for(asking.calls.happened.wait(), AT_REST_WITHIN_S)
        await here.sql.execute("UPDATE simulator.instances SET queued_at = now()")
        await pod.warm_pool.refill()
        assert await here.spares() == {}
        await here.sql.execute("UPDATE simulator.instances SET admitted_at = now()")
        await pod.warm_pool.refill()
        assert len(await here.spares()) == 1
        await here.declare_dead(asking)
        await here.brought_to_rest_by(pod)
        assert len(await here.spares()) == 4
        assert await here.newest(session_id) == ("RUNNING", None)


async def test_the_answer_to_a_create_that_comes_late_takes_nothing_back(here: Installation, pod: PodParts) -> None:
    """It says that the workload is there; another pod has found meanwhile that it is ready."""
    before = await here.spares()
    for simulator_id, uid in before.items():
        assert uid is not None
        assert await pod.spares.recorded(simulator_id, uid, None)
    assert await here.spares() == before


async def test_rows_that_are_deleted_by_hand_take_their_workloads_along(here: Installation, pod: PodParts) -> None:
    before = here.host.workloads(here.label)
    await here.sql.execute("DELETE FROM simulator.warm_pool")
    await pod.teardowns.work_off()
    assert here.host.workloads(here.label) == {}
    await here.brought_to_rest_by(pod)
    assert not here.host.workloads(here.label).keys() & before.keys()


async def test_a_claim_on_another_pod_is_answered_by_a_refill(here: Installation, pod: PodParts) -> None:
    refilled = asyncio.Event()

    async def refill() -> None:
        await pod.warm_pool.refill()
        refilled.set()

    following = asyncio.create_task(pod.warm_pool.refill_when_taken(refill))
    await pod.simulators.create_simulator(await pod.open_session("user-1"), "user-1", SYMBOLS, DEFAULT_CASH)
    await asyncio.wait_for(refilled.wait(), AT_REST_WITHIN_S)

    async def is_full() -> bool:
        return len(await here.spares()) == SIZE

    await eventually(is_full, within_s=AT_REST_WITHIN_S, what="the pool is full again")
    following.cancel()
    await asyncio.wait([following])


async def test_the_gauge_says_how_many_there_are(here: Installation, pod: PodParts) -> None:
    await pod.warm_pool.measure()
    gauge = here.metrics.warm_pool_spares
    assert (gauge.labels("ready")._value.get(), gauge.labels("creating")._value.get()) == (SIZE, 0)
