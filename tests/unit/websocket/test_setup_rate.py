"""The rate of new connections, with time and lag given to it."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from session_service.websocket.setup_rate import LONGEST_RETRY_S, RateLimits, SetupRate

LIMITS = RateLimits()
TICK_S = 0.05
LATE_S = LIMITS.lag_limit_s * 2


def rate_at_its_ceiling(now_s: float = 0.0) -> SetupRate:
    return SetupRate(LIMITS, random.Random(7).random, now_s)


def taken(rate: SetupRate, tries: int, now_s: float) -> int:
    return sum(rate.take(now_s) for _ in range(tries))


def rate_at_its_floor() -> tuple[SetupRate, float]:
    rate, now_s = rate_at_its_ceiling(), 0.0
    while rate.rate_per_s > LIMITS.floor_per_s:
        now_s += LIMITS.decrease_every_s
        rate.observe(LATE_S, now_s)
    return rate, now_s


def test_a_loop_in_time_admits_what_a_core_can_serve() -> None:
    rate, now_s, admitted = rate_at_its_ceiling(), 0.0, 0
    for _ in range(100):  # 5 s at 2,500 a second
        now_s += TICK_S
        rate.observe(0.005, now_s)
        admitted += taken(rate, 125, now_s)
    assert admitted == 12_500


def test_a_late_loop_halves_the_rate_and_loses_what_was_saved() -> None:
    rate = rate_at_its_ceiling()
    rate.observe(LATE_S, 1.0)
    assert rate.rate_per_s == LIMITS.ceiling_per_s / 2
    assert taken(rate, 1_000, 1.0) == LIMITS.smallest_burst


def test_one_burst_is_not_taken_for_many() -> None:
    rate = rate_at_its_ceiling()
    for step in range(10):
        rate.observe(LATE_S, 1.0 + step * LIMITS.decrease_every_s / 11)
    assert rate.rate_per_s == LIMITS.ceiling_per_s / 2


def test_a_loop_that_stays_late_still_admits_at_the_floor() -> None:
    rate, now_s = rate_at_its_floor()
    taken(rate, 10_000, now_s)
    admitted = 0
    for step in range(1, 101):
        rate.observe(LATE_S, now_s + step * 0.1)
        admitted += taken(rate, 100, now_s + step * 0.1)
    assert LIMITS.floor_per_s * 10 - 1 <= admitted <= LIMITS.floor_per_s * 10


def test_it_comes_back_from_floor_to_ceiling_within_ten_seconds() -> None:
    rate, now_s = rate_at_its_floor()
    for step in range(1, int(10 / TICK_S) + 1):
        rate.observe(0.0, now_s + step * TICK_S)
    assert rate.rate_per_s == LIMITS.ceiling_per_s


def test_a_late_tick_is_no_time_in_which_the_rate_grew() -> None:
    rate, now_s = rate_at_its_floor()
    rate.observe(9.0, now_s + 9.0)
    rate.observe(0.0, now_s + 9.0 + TICK_S)
    assert rate.rate_per_s <= LIMITS.floor_per_s + TICK_S * LIMITS.increase_per_s2 + 1e-6


def test_the_refused_are_spread_over_the_time_that_the_queue_needs() -> None:
    """1,000 that are refused at 50 a second, growing by 500 a second every second: 1.9 s are needed."""
    rate, now_s = rate_at_its_floor()
    waits = Counter(rate.retry_after_s(now_s) for _ in range(1_000))
    assert set(waits) == {1, 2, 3}
    assert waits[2] > waits[1] > waits[3] or waits[1] > waits[2] > waits[3]


def test_a_queue_beyond_the_longest_wait_is_spread_over_all_of_it() -> None:
    rate, now_s = rate_at_its_floor()
    for _ in range(100_000):
        rate.retry_after_s(now_s)
    waits = Counter(rate.retry_after_s(now_s) for _ in range(10_000))
    assert set(waits) == set(range(1, LONGEST_RETRY_S + 1))
    assert max(waits.values()) < 1.3 * min(waits.values())


def test_a_queue_is_worked_off_with_time() -> None:
    rate, now_s = rate_at_its_floor()
    for _ in range(1_000):
        rate.retry_after_s(now_s)
    assert rate.retry_after_s(now_s + 60.0) == 1


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2), st.integers(0, 400)), max_size=60),
    st.integers(0, 2**32),
)
def test_whatever_happens_it_keeps_its_bounds(steps: list[tuple[float, float, int]], seed: int) -> None:
    """Never more than the ceiling and a burst, never less than the floor for one that asks; waits are 1…10 s."""
    rate, now_s, admitted = SetupRate(LIMITS, random.Random(seed).random, 0.0), 0.0, 0
    for gap_s, lag_s, tries in steps:
        now_s += gap_s
        rate.observe(lag_s, now_s)
        assert LIMITS.floor_per_s <= rate.rate_per_s <= LIMITS.ceiling_per_s
        for _ in range(tries):
            if rate.take(now_s):
                admitted += 1
            else:
                assert 1 <= rate.retry_after_s(now_s) <= LONGEST_RETRY_S
    assert admitted <= LIMITS.ceiling_per_s * (now_s + LIMITS.burst_s) + 1e-6
    assert rate.take(now_s + 1.0 / LIMITS.floor_per_s + 1e-6)  # the sum of two instants is rounded
