"""Where a list-and-watch goes from what it met."""

from __future__ import annotations

import pytest

from session_service.aiokit.backoff import Backoff
from session_service.clients.kubernetes_watch import RELIST_AFTER_FAILURES, Next, Outcome, WatchMachine

BACKOFF = Backoff(first_s=1.0, max_s=4.0, jitter=0.0)


@pytest.fixture
def machine() -> WatchMachine:
    return WatchMachine(BACKOFF)


def test_it_begins_with_a_list_and_goes_on_watching_from_its_version(machine: WatchMachine) -> None:
    assert (machine.next, machine.resource_version) == (Next.LIST, None)
    machine.begun(0.0)
    machine.listed("7", 0.1)
    assert (machine.next, machine.resource_version) == (Next.WATCH, "7")


def test_every_event_moves_the_version(machine: WatchMachine) -> None:
    machine.listed("7", 0.0)
    machine.heard("9", 1.0)
    assert machine.resource_version == "9"
    machine.heard("", 2.0)  # an event without one tells nothing of it
    assert machine.resource_version == "9"


def test_a_watch_that_the_server_ends_is_made_again_at_once_from_where_it_was(machine: WatchMachine) -> None:
    machine.listed("7", 0.0)
    machine.begun(0.0)
    machine.heard("9", 250.0)
    assert machine.over(Outcome.ENDED, 300.0) == 0.0
    assert (machine.next, machine.resource_version) == (Next.WATCH, "9")


def test_one_that_ends_as_soon_as_it_began_is_not_made_again_in_a_loop(machine: WatchMachine) -> None:
    machine.listed("7", 0.0)
    machine.begun(10.0)
    assert machine.over(Outcome.ENDED, 10.5) == 1.0
    machine.begun(11.5)
    assert machine.over(Outcome.ENDED, 12.0) == 2.0


def test_an_expired_version_is_listed_anew_at_once_the_first_time(machine: WatchMachine) -> None:
    machine.listed("7", 0.0)
    machine.begun(0.0)
    assert machine.over(Outcome.EXPIRED, 1.0) == 0.0
    assert machine.next is Next.LIST
    machine.listed("8", 1.1)
    machine.begun(1.1)
    assert machine.over(Outcome.EXPIRED, 1.2) == 2.0


def test_failures_wait_longer_and_longer_and_are_forgotten_with_the_next_event(machine: WatchMachine) -> None:
    machine.listed("7", 0.0)
    machine.begun(0.0)
    assert machine.over(Outcome.FAILED, 1.0) == 1.0
    machine.begun(2.0)
    assert machine.over(Outcome.FAILED, 3.0) == 2.0
    assert machine.next is Next.WATCH
    machine.begun(5.0)
    machine.heard("8", 6.0)
    assert machine.over(Outcome.FAILED, 7.0) == 1.0


def test_a_version_that_fails_again_and_again_is_given_up(machine: WatchMachine) -> None:
    machine.listed("7", 0.0)
    for attempt in range(RELIST_AFTER_FAILURES):
        assert machine.next is Next.WATCH
        machine.begun(float(attempt))
        machine.over(Outcome.FAILED, float(attempt))
    assert machine.next is Next.LIST


def test_it_is_current_while_something_was_heard_lately(machine: WatchMachine) -> None:
    assert not machine.is_current(0.0, 90.0)
    machine.listed("7", 10.0)
    assert machine.is_current(100.0, 90.0)
    assert not machine.is_current(100.1, 90.0)
    machine.heard("8", 100.0)
    assert machine.is_current(190.0, 90.0)
    machine.begun(100.0)
    machine.over(Outcome.EXPIRED, 101.0)
    assert not machine.is_current(101.0, 90.0)
