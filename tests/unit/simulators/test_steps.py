"""Every row of the reconciler's table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from session_service.domain.simulator import Simulator, SimulatorStatus, SimulatorTarget
from session_service.simulators.backend import Workload, WorkloadPhase
from session_service.simulators.steps import (
    SPARE_LIMIT_S,
    START_LIMIT_S,
    UNRESPONSIVE_LIMIT_S,
    Action,
    Step,
    after_failed_heartbeat,
    after_failed_step,
    next_step,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PENDING = Workload("sim", "uid", WorkloadPhase.PENDING)
READY = Workload("sim", "uid", WorkloadPhase.READY, "127.0.0.1:1")
READY_WITHOUT_ENDPOINT = Workload("sim", "uid", WorkloadPhase.READY)
FAILED = Workload("sim", "uid", WorkloadPhase.FAILED, None, "exit code 1")
FAILED_SILENTLY = Workload("sim", "uid", WorkloadPhase.FAILED)
WITHOUT_IMAGE = Workload("sim", "uid", WorkloadPhase.PENDING, None, "ImagePullBackOff")
PARTIAL = Workload("sim", "uid", WorkloadPhase.PARTIAL)  # its create was cut short
ENDING = Workload("sim", "uid", WorkloadPhase.ENDING)
ANOTHER = Workload("sim", "another uid", WorkloadPhase.READY, "127.0.0.1:2")  # came after the recorded one had gone


def simulator(status: SimulatorStatus, workload_uid: str | None = None, *, was_spare: bool = False) -> Simulator:
    return Simulator(
        simulator_id="sim",
        session_id="session",
        user_id="user",
        status=status,
        target=SimulatorTarget.RUNNING,
        endpoint=None,
        created_at=NOW,
        last_active=NOW,
        initial_symbols=("AAPL",),
        initial_cash=1.0,
        reason=None,
        workload_uid=workload_uid,
        was_spare=was_spare,
    )


@pytest.mark.parametrize("workload", [None, PENDING, READY_WITHOUT_ENDPOINT, FAILED, PARTIAL, ENDING, ANOTHER])
def test_a_spare_that_is_not_ready_any_more_is_no_reason_to_fail(workload: Workload | None) -> None:
    taken = simulator(SimulatorStatus.STARTING, "uid", was_spare=True)
    step = next_step(taken, workload, predecessor_remains=False, waited_s=1.0)
    assert step == Step(Action.REPLACE_SPARE)


def test_a_spare_is_called_at_once_and_not_for_long() -> None:
    taken = simulator(SimulatorStatus.STARTING, "uid", was_spare=True)
    assert next_step(taken, READY, predecessor_remains=False, waited_s=0.0) == Step(Action.START_EXCHANGE)
    late_s = SPARE_LIMIT_S + 0.1
    assert next_step(taken, READY, predecessor_remains=False, waited_s=late_s) == Step(Action.REPLACE_SPARE)
    running = simulator(SimulatorStatus.RUNNING, "uid", was_spare=True)
    assert next_step(running, None, predecessor_remains=False, waited_s=late_s) == Step(Action.HEARTBEAT)


def test_a_spare_that_cannot_be_removed_is_not_waited_for_longer_than_any_start() -> None:
    taken = simulator(SimulatorStatus.STARTING, "uid", was_spare=True)
    step = next_step(taken, PENDING, predecessor_remains=False, waited_s=START_LIMIT_S + 1)
    assert step == Step(Action.FAIL, "start_timeout")


@pytest.mark.parametrize("workload", [None, PENDING, READY, FAILED])
@pytest.mark.parametrize(
    ("status", "action"),
    [
        (SimulatorStatus.STOPPED, Action.REST),
        (SimulatorStatus.ERROR, Action.REST),
        (SimulatorStatus.STOPPING, Action.REMOVE_WORKLOAD),
        (SimulatorStatus.RUNNING, Action.HEARTBEAT),
    ],
)
def test_past_its_start_the_row_alone_decides(
    status: SimulatorStatus, action: Action, workload: Workload | None
) -> None:
    step = next_step(simulator(status), workload, predecessor_remains=True, waited_s=10 * START_LIMIT_S)
    assert step == Step(action)


@pytest.mark.parametrize(
    ("workload", "predecessor_remains", "step"),
    [
        (None, False, Step(Action.CREATE_WORKLOAD)),
        (None, True, Step(Action.WAIT, "predecessor")),
        # A create whose reply was lost did happen: the workload is there, and the row learns of it.
        (PENDING, False, Step(Action.RECORD_WORKLOAD)),
        (READY, False, Step(Action.RECORD_WORKLOAD)),
        (READY, True, Step(Action.RECORD_WORKLOAD)),
        (ENDING, False, Step(Action.WAIT, "ending")),
        (PARTIAL, False, Step(Action.CREATE_WORKLOAD)),
        (FAILED, False, Step(Action.FAIL, "exit code 1")),
        (FAILED_SILENTLY, False, Step(Action.FAIL, "workload_failed")),
    ],
)
def test_creating(workload: Workload | None, predecessor_remains: bool, step: Step) -> None:
    row = simulator(SimulatorStatus.CREATING)
    assert next_step(row, workload, predecessor_remains=predecessor_remains, waited_s=0) == step


@pytest.mark.parametrize(
    ("workload", "step"),
    [
        (None, Step(Action.FAIL, "workload_gone")),
        (PENDING, Step(Action.WAIT)),
        (READY, Step(Action.START_EXCHANGE)),
        (READY_WITHOUT_ENDPOINT, Step(Action.WAIT)),
        (FAILED, Step(Action.FAIL, "exit code 1")),
        (WITHOUT_IMAGE, Step(Action.WAIT, "ImagePullBackOff")),
        (ENDING, Step(Action.FAIL, "workload_gone")),
        (PARTIAL, Step(Action.FAIL, "workload_gone")),
        (ANOTHER, Step(Action.FAIL, "workload_gone")),
    ],
)
def test_starting(workload: Workload | None, step: Step) -> None:
    row = simulator(SimulatorStatus.STARTING, "uid")
    assert next_step(row, workload, predecessor_remains=False, waited_s=START_LIMIT_S) == step


@pytest.mark.parametrize("status", [SimulatorStatus.CREATING, SimulatorStatus.STARTING])
@pytest.mark.parametrize("workload", [None, PENDING, READY])
def test_a_start_that_takes_too_long_fails(status: SimulatorStatus, workload: Workload | None) -> None:
    step = next_step(simulator(status), workload, predecessor_remains=False, waited_s=START_LIMIT_S + 0.001)
    assert step == Step(Action.FAIL, "start_timeout")


def test_a_start_that_takes_too_long_says_what_it_waited_for() -> None:
    waiting = simulator(SimulatorStatus.STARTING)
    step = next_step(waiting, WITHOUT_IMAGE, predecessor_remains=False, waited_s=START_LIMIT_S + 0.001)
    assert step == Step(Action.FAIL, "ImagePullBackOff")


def test_a_failed_workload_says_why_even_when_its_time_is_over() -> None:
    step = next_step(
        simulator(SimulatorStatus.STARTING), FAILED, predecessor_remains=False, waited_s=START_LIMIT_S + 1
    )
    assert step == Step(Action.FAIL, "exit code 1")


@pytest.mark.parametrize(
    ("workload", "silent_s", "step"),
    [
        (None, 0.0, Step(Action.FAIL, "workload_gone")),
        (FAILED, 0.0, Step(Action.FAIL, "exit code 1")),
        (FAILED_SILENTLY, 0.0, Step(Action.FAIL, "workload_failed")),
        (READY, 0.0, Step(Action.WAIT, "unresponsive")),
        (READY, UNRESPONSIVE_LIMIT_S, Step(Action.WAIT, "unresponsive")),
        (READY, UNRESPONSIVE_LIMIT_S + 0.001, Step(Action.FAIL, "unresponsive")),
        (ENDING, 0.0, Step(Action.FAIL, "workload_gone")),
        (PARTIAL, 0.0, Step(Action.FAIL, "workload_gone")),
        (ANOTHER, 0.0, Step(Action.FAIL, "workload_gone")),
    ],
)
def test_a_running_simulator_that_does_not_answer(workload: Workload | None, silent_s: float, step: Step) -> None:
    assert after_failed_heartbeat(simulator(SimulatorStatus.RUNNING, "uid"), workload, silent_s) == step


def test_a_platform_that_does_nothing_is_not_tried_for_ever() -> None:
    assert after_failed_step(START_LIMIT_S).action is Action.WAIT
    assert after_failed_step(START_LIMIT_S + 1) == Step(Action.FAIL, "platform_unavailable")
