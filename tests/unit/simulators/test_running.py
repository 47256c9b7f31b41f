"""Rows that are believed: for how long, and not past an event."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from session_service.domain.simulator import Simulator, SimulatorStatus, SimulatorTarget
from session_service.simulators.running import KNOWN_FOR_S, RunningSimulators


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def simulator(simulator_id: str = "sim-1", status: SimulatorStatus = SimulatorStatus.RUNNING) -> Simulator:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Simulator(
        simulator_id,
        "session-1",
        "user-1",
        status,
        SimulatorTarget.RUNNING,
        "h:1",
        at,
        at,
        ("AAPL",),
        1.0,
        None,
        None,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def running(clock: Clock) -> RunningSimulators:
    return RunningSimulators(clock)


def test_a_row_is_believed_for_a_while_and_stale_for_as_long_as_it_takes(
    running: RunningSimulators, clock: Clock
) -> None:
    running.remember(simulator(), running.version)
    assert running.of_session("session-1") == running.by_id("sim-1") == simulator()
    clock.now = KNOWN_FOR_S
    assert running.of_session("session-1") is None
    clock.now = 86_400.0
    assert running.by_id("sim-1", stale=True) == simulator()
    assert running.all() == [simulator()]


def test_a_round_brings_what_runs_and_drops_what_does_not(running: RunningSimulators) -> None:
    running.remember(simulator("old"), running.version)
    running.refresh([], running.version)
    assert running.all() == []
    running.refresh([simulator()], running.version)
    assert running.by_id("sim-1") == simulator()


def test_a_round_that_began_before_an_event_says_nothing_of_its_session(running: RunningSimulators) -> None:
    version = running.version
    running.forget("session-1")  # it stopped, while the round's rows were on their way
    running.refresh([simulator()], version)
    assert running.all() == []
    running.forget("session-1")
    running.remember(simulator("new"), running.version)  # it started again, and the old round still comes
    running.refresh([], version)
    assert running.by_id("new") == simulator("new")


def test_a_row_that_was_read_before_an_event_is_not_believed(running: RunningSimulators) -> None:
    version = running.version
    running.forget("session-1")  # it stopped while the row was on its way
    running.remember(simulator(), version)
    assert running.of_session("session-1", stale=True) is None


def test_only_running_ones_are_remembered(running: RunningSimulators) -> None:
    running.remember(simulator(status=SimulatorStatus.STOPPING), running.version)
    running.remember(None, running.version)
    assert running.of_session("session-1", stale=True) is None


def test_a_successor_takes_the_place_of_its_predecessor(running: RunningSimulators) -> None:
    running.remember(simulator("old"), running.version)
    running.remember(simulator("new"), running.version)
    assert running.by_id("old", stale=True) is None
    assert running.by_id("new") == simulator("new")
