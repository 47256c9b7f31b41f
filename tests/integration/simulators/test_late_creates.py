"""A create may take effect after all else is over, and a workload may go unasked: the rows are right in the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.crash_points import Case, Operate, end_session, start, stop
from tests.support.installation import AT_REST_WITHIN_S, Installation, running_simulator
from tests.support.mishaps import Mishap
from tests.support.pod_parts import PodParts

Arrive = Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def a_create_under_way(here: Installation) -> AsyncIterator[tuple[PodParts, Case, Arrive]]:
    """The pod that asked for it is gone as well, so that nobody waits for the answer. Another pod has its session."""
    async with here.pod() as survivor, here.pod() as pod:
        case = Case(here, await pod.open_session("user-1"), "user-1")
        pod.calls.arm(Mishap.LATE, "create")
        await start(pod, case)
        await asyncio.wait_for(pod.calls.happened.wait(), AT_REST_WITHIN_S)
        case.simulator = await survivor.simulators.of_session(case.session_id)
        await here.declare_dead(pod)
        await survivor.ownership.adopt()
        yield survivor, case, pod.calls.deliver_late


@pytest.mark.parametrize("end", [end_session, stop])
async def test_a_simulators_end_is_no_end_while_its_create_may_still_arrive(here: Installation, end: Operate) -> None:
    async with a_create_under_way(here) as (survivor, case, arrive):
        await end(survivor, case)
        await survivor.quiet()
        for _ in range(3):
            await survivor.teardowns.work_off()
            await survivor.reconciler.resync()
            await survivor.quiet()
        unrest = await here.unrest()
        assert unrest.keys() <= {"teardowns", "on their way"}
        assert unrest
        await arrive()
        assert here.host.workloads(here.label)
        for _ in range(3):
            await survivor.teardowns.work_off()
            await survivor.reconciler.resync()
            await survivor.quiet()
        assert await here.unrest() == {}
        assert here.host.workloads(here.label) == {}


async def test_a_create_that_was_answered_keeps_nobody_waiting(here: Installation) -> None:
    async with here.pod() as pod:
        simulator = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
        assert await here.sql.fetchval("SELECT create_until = '-infinity' FROM simulator.instances")
        await pod.simulators.stop_simulator(simulator.simulator_id, "stopped_by_user")
        await pod.quiet()
        assert await here.newest(simulator.session_id) == ("STOPPED", "stopped_by_user")


@pytest.mark.parametrize("end", [end_session, stop])
async def test_a_workload_that_arrives_after_its_simulators_end_is_removed(here: Installation, end: Operate) -> None:
    """Later than any create may: a request that a frozen host reads when it goes on."""
    async with a_create_under_way(here) as (survivor, case, arrive):
        await end(survivor, case)
        await here.brought_to_rest_by(survivor)
        await arrive()
        assert here.host.workloads(here.label)
        await survivor.round()
        assert here.host.workloads(here.label) == {}


async def test_a_simulator_whose_workload_is_no_more_fails(here: Installation) -> None:
    async with here.pod() as pod:
        simulator = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
        here.host.remove(here.label, simulator.simulator_id, None)
        await pod.round()
        await pod.quiet()
        assert await here.newest(simulator.session_id) == ("ERROR", "workload_gone")
