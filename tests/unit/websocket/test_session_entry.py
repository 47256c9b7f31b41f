"""What the sockets of a session are told of its simulator's place in the start queue."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from session_service.domain.events import NOT_QUEUED
from session_service.domain.session import Session, SessionStatus
from session_service.domain.simulator import Simulator, SimulatorStatus, SimulatorTarget
from session_service.websocket.session_entry import SessionEntry

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def entry() -> SessionEntry:
    return SessionEntry(
        Session(
            session_id="session",
            user_id="user",
            status=SessionStatus.ACTIVE,
            created_at=NOW,
            last_active=NOW,
            expires_at=NOW,
            device_id="device",
            metadata={},
        )
    )


def row(status: SimulatorStatus, simulator_id: str = "sim") -> Simulator:
    return Simulator(
        simulator_id=simulator_id,
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
        workload_uid=None,
        changed_in=10,
    )


def waiting(entry: SessionEntry, position: int | None, changed_in: int = 10, simulator_id: str = "sim") -> bool:
    return entry.simulator_changed(simulator_id, "CREATING", None, changed_in, position)


def test_a_place_is_news_until_it_is_told(entry: SessionEntry) -> None:
    told = [(waiting(entry, position), entry.queue_position) for position in (3, 3, 2, 2, 1)]
    assert told == [(True, 3), (False, 3), (True, 2), (False, 2), (True, 1)]
    assert entry.simulator_status is SimulatorStatus.STARTING


def test_what_says_nothing_of_places_leaves_it(entry: SessionEntry) -> None:
    waiting(entry, 3)
    assert not waiting(entry, None, changed_in=11)
    assert entry.queue_position == 3


@pytest.mark.parametrize("status", ["STARTING", "RUNNING", "STOPPED", "ERROR"])
def test_a_later_status_ends_it(entry: SessionEntry, status: str) -> None:
    waiting(entry, 3)
    assert entry.simulator_changed("sim", status, None, 11)
    assert (entry.queue_position, entry.simulator_status) == (None, status)


def test_the_queues_end_is_news_once(entry: SessionEntry) -> None:
    waiting(entry, 1)
    assert [waiting(entry, NOT_QUEUED) for _ in range(2)] == [True, False]
    assert (entry.queue_position, entry.simulator_status) == (None, SimulatorStatus.STARTING)


def test_a_place_that_comes_late_is_not_told(entry: SessionEntry) -> None:
    entry.simulator_changed("sim", "STARTING", None, 11)
    assert not waiting(entry, 3)
    assert entry.queue_position is None


def test_anothers_place_is_not_a_successors(entry: SessionEntry) -> None:
    waiting(entry, 3)
    assert waiting(entry, None, changed_in=12, simulator_id="next")
    assert (entry.simulator_id, entry.queue_position) == ("next", None)


@pytest.mark.parametrize(
    ("read", "position"),
    [
        (row(SimulatorStatus.CREATING), 3),
        (row(SimulatorStatus.STARTING), None),
        (row(SimulatorStatus.CREATING, "next"), None),
        (None, None),
    ],
)
def test_a_read_row_keeps_the_place_of_what_still_waits(
    entry: SessionEntry, read: Simulator | None, position: int | None
) -> None:
    waiting(entry, 3)
    entry.simulator_read(read, entry.simulator_version)
    assert entry.queue_position == position
