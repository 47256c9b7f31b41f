"""What a pod does to simulators, and a mishap at one of the calls that it makes for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from session_service.domain.simulator import DEFAULT_CASH, Simulator
from session_service.errors import SessionNotFoundError
from tests.support.installation import AT_REST_WITHIN_S, SYMBOLS, InstallationOn, running_simulator
from tests.support.mishaps import Mishap
from tests.support.pod_parts import PodParts, identity
from tests.support.workload_host import FAILS_ON_THIS_PLATFORM

FEWEST_CALLS = 3
MORE_CALLS_THAN_ANY_OPERATION_MAKES = 200
REFUSAL = "'no symbol' is not a symbol (1 to 16 of A-Z, 0-9, dot and hyphen)"


class Case(msgspec.Struct):
    """What an operation is made on."""

    here: InstallationOn[Any]
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
    await pod.teardowns.work_off()


async def run_out(pod: PodParts, case: Case) -> None:
    await run(pod, case)
    await case.here.sql.execute(
        # Before any pod of the test began: one that is left without its rounds holds up no expiry.
        "UPDATE session.active_sessions SET expires_at = now() - interval '1 hour' WHERE session_id = $1",
        case.session_id,
    )


async def expire(pod: PodParts, _case: Case) -> None:
    await pod.round()


async def clean_up_by_hand(pod: PodParts, case: Case) -> None:
    await case.here.sql.execute("SELECT session.cleanup_expired_sessions()")
    await pod.teardowns.work_off()


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
Outcomes = set[tuple[str, str | None] | None]
COMMANDS: dict[str, tuple[Prepare, Operate, Outcomes]] = {
    # What comes before, what is done, and how the newest simulator may stand afterwards where it was done or refused.
    "create": (nothing, start, {("RUNNING", None), ENDED}),
    "stop": (run, stop, {("STOPPED", "stopped_by_user"), ("RUNNING", None)}),
    "start over stopping": (run, stop_and_start, {("RUNNING", None), ("STOPPED", "stopped_by_user")}),
    "stop of a start": (nothing, start_and_stop, {("STOPPED", "stopped_by_user"), ("RUNNING", None), ENDED}),
    "end while starting": (nothing, start_and_end_session, {ENDED, ("RUNNING", None)}),
    "end of the session": (run, end_session, {ENDED, ("RUNNING", None)}),
}
EVENTS: dict[str, tuple[Prepare, Operate, Outcomes]] = {
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
"""As COMMANDS: starts that cannot succeed, and what happens without a command."""


async def fill(pod: PodParts, case: Case) -> None:
    await case.here.brought_to_rest_by(pod)


async def fill_with_what_dies(pod: PodParts, case: Case) -> None:
    await fill(pod, case)
    for spare in await case.here.spares():
        case.here.host.lose(spare)


async def fill_with_what_is_outdated(pod: PodParts, case: Case) -> None:
    await fill(pod, case)
    await case.here.sql.execute("UPDATE simulator.warm_pool SET recipe = 'of the release before'")


async def lose_all(pod: PodParts, case: Case) -> None:
    await fill(pod, case)
    await case.here.sql.execute("DELETE FROM simulator.warm_pool")


async def refill(pod: PodParts, _case: Case) -> None:
    await pod.warm_pool.refill()


async def inspect(pod: PodParts, _case: Case) -> None:
    await pod.warm_pool.inspect()


WITH_SPARES: dict[str, tuple[Prepare, Operate, Outcomes]] = {
    "refill": (lose_all, refill, {ENDED}),
    "replacement of what is outdated": (fill_with_what_is_outdated, refill, {ENDED}),
    "inspection": (fill_with_what_dies, inspect, {ENDED}),
    "start with a spare": (fill, start, {("RUNNING", None), ENDED}),
    "start with a spare that died": (fill_with_what_dies, start, {("RUNNING", None), ENDED}),
    "end while a spare is taken": (fill, start_and_end_session, {ENDED, ("RUNNING", None)}),
}
"""As COMMANDS, where spares are kept."""


async def meet(here: InstallationOn[Any], survivor: PodParts, name: str, mishap: Mishap, number: int) -> bool:
    """One pod carries ``name`` out, and has ``mishap`` at its call of this number. False: it made fewer calls."""
    prepare, operate, outcomes = {**COMMANDS, **EVENTS, **WITH_SPARES}[name]
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
            assert here.host.workloads(here.label) == await here.spares()
            assert here.host.overlaps == []
        except Exception as error:
            error.add_note(f"{name}: {mishap} at call {number} of {pod.calls.names}")
            raise
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
        return happened


async def meet_at_every_call(
    here: InstallationOn[Any],
    survivor: PodParts,
    name: str,
    *,
    fewest_calls: int = FEWEST_CALLS,
    is_clean: Callable[[], bool] = lambda: True,
) -> None:
    """Every mishap at each call that ``name`` makes, of which there are more than ``fewest_calls``, one at a time;
    ``is_clean`` holds after each.
    """
    for mishap in Mishap:
        for number in range(1, MORE_CALLS_THAN_ANY_OPERATION_MAKES):
            if not await meet(here, survivor, name, mishap, number):
                assert number > fewest_calls, "the mishap has to meet the operation"
                break
            assert is_clean()
