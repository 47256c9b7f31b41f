"""Rows that are believed: for how long, and not past an event."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from session_service.domain.simulator import Simulator, SimulatorStatus, SimulatorTarget
from session_service.simulators.running import BELIEVED_FOR_S, KNOWN_FOR_S, RunningSimulators


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


def test_a_row_is_believed_for_a_while_and_stale_for_longer(running: RunningSimulators, clock: Clock) -> None:
    running.remember(simulator(), running.version)
    assert running.of_session("session-1") == running.by_id("sim-1") == simulator()
    clock.now = KNOWN_FOR_S
    assert running.of_session("session-1") is None
    assert running.by_id("sim-1", stale=True) == simulator()
    clock.now += BELIEVED_FOR_S
    running.sweep()
    assert running.by_id("sim-1", stale=True) is not None  # at the very limit
    clock.now += 1
    running.sweep()
    assert running.by_id("sim-1", stale=True) is None


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
