"""The token bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from session_service.wire.rate_limit import TokenBucket


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(20.0, 40, 0.0)
    assert [bucket.take(0.0) for _ in range(41)] == [True] * 40 + [False]
    assert bucket.take(0.04) is False
    assert bucket.take(0.1) is True


def test_it_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(20.0, 3, 0.0)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(20.0, 1, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)


@given(st.lists(st.floats(0, 1), max_size=200))
def test_no_pattern_gets_more_than_burst_and_rate(gaps_s: list[float]) -> None:
    bucket, now_s, taken = TokenBucket(20.0, 40, 0.0), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        taken += bucket.take(now_s)
    assert taken <= 40 + 20 * now_s + 1e-6


def test_tokens_above_a_smaller_burst_are_lost() -> None:
    bucket = TokenBucket(20.0, 40, 0.0)
    bucket.change(20.0, 2, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]


def test_what_was_earned_before_a_change_was_earned_at_the_old_rate() -> None:
    bucket = TokenBucket(10.0, 100, 0.0)
    assert all(bucket.take(0.0) for _ in range(100))
    bucket.change(1.0, 100, 0.5)
    assert [bucket.take(0.5) for _ in range(6)] == [True] * 5 + [False]


def test_a_larger_burst_fills_at_the_new_rate() -> None:
    bucket = TokenBucket(1.0, 1, 0.0)
    bucket.change(10.0, 10, 0.0)
    assert [bucket.take(0.0) for _ in range(2)] == [True, False]
    assert [bucket.take(1.0) for _ in range(11)] == [True] * 10 + [False]
