"""How long a start has been tried, and when it may be tried again."""

from __future__ import annotations

from functools import partial

import pytest

from session_service.aiokit.backoff import Backoff
from session_service.simulators.start_attempts import (
    BACKEND_BACKOFF,
    EXCHANGE_BACKOFF,
    LONGEST_PATIENCE_S,
    LOOK_EVERY_S,
    StartAttempts,
)

STEADY = Backoff(first_s=1.0, max_s=8.0, jitter=0.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> StartAttempts:
    return StartAttempts(clock, lambda: 0.5)


def test_time_counts_from_the_first_look(attempts: StartAttempts, clock: Clock) -> None:
    assert attempts.spent_s("sim") == 0
    clock.now += 5
    assert (attempts.spent_s("sim"), attempts.spent_s("other")) == (5, 0)


def test_time_in_the_queue_does_not_count(attempts: StartAttempts, clock: Clock) -> None:
    attempts.pause("sim")  # it has waited since before anybody tried it
    clock.now += 1000
    attempts.spent_s("sim")
    clock.now += 5
    for _ in range(2):  # its slot lapsed, and it waits again; said twice
        attempts.pause("sim")
        clock.now += 1000
    assert attempts.spent_s("sim") == 5
    clock.now += 2
    assert attempts.spent_s("sim") == 7


def test_waits_grow_up_to_their_limit(attempts: StartAttempts, clock: Clock) -> None:
    waits = []
    for _ in range(6):
        waits.append(attempts.failed("sim", STEADY))
        assert attempts.due_in_s("sim") == waits[-1]
        clock.now += waits[-1]
        assert attempts.due_in_s("sim") == 0
    assert waits == [1, 2, 4, 8, 8, 8]


def test_an_answer_ends_the_series(attempts: StartAttempts) -> None:
    attempts.failed("sim", STEADY)
    attempts.failed("sim", STEADY)
    attempts.answered("sim")
    assert attempts.due_in_s("sim") == 0
    assert attempts.failed("sim", STEADY) == 1


def test_each_start_backs_off_by_itself(attempts: StartAttempts) -> None:
    for _ in range(3):
        attempts.failed("sim", STEADY)
    assert attempts.due_in_s("other") == 0
    assert attempts.failed("other", STEADY) == 1


@pytest.mark.parametrize(("asked_s", "wait_s"), [(0.5, 1), (1, 1), (30, 30), (3600, LONGEST_PATIENCE_S)])
def test_who_refuses_is_not_asked_before_the_time_that_was_named(
    attempts: StartAttempts, asked_s: float, wait_s: float
) -> None:
    assert attempts.failed("sim", STEADY, at_least_s=asked_s) == wait_s


@pytest.mark.parametrize("backoff", [BACKEND_BACKOFF, EXCHANGE_BACKOFF])
def test_those_that_failed_together_do_not_come_back_together(clock: Clock, backoff: Backoff) -> None:
    waits = [StartAttempts(clock, partial(float, drawn)).failed("sim", backoff) for drawn in (0.0, 0.5, 0.99)]
    assert max(waits) > 2.9 * min(waits)


def test_what_is_over_is_forgotten(attempts: StartAttempts, clock: Clock) -> None:
    attempts.spent_s("sim")
    attempts.failed("sim", STEADY)
    clock.now += 0.5
    attempts.forget("sim")
    attempts.forget("never seen")
    assert (len(attempts), attempts.due_in_s("sim")) == (0, 0)
    assert attempts.spent_s("sim") == 0


def test_its_platform_is_to_be_asked_itself_now_and_then(attempts: StartAttempts, clock: Clock) -> None:
    assert not attempts.is_look_due("sim")  # it was made just now
    clock.now += LOOK_EVERY_S
    assert attempts.is_look_due("sim")
    attempts.looked("sim")
    clock.now += LOOK_EVERY_S - 1
    assert not attempts.is_look_due("sim")
    clock.now += 1
    assert attempts.is_look_due("sim")
