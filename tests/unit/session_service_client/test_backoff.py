"""Decorrelated jitter: a short first wait, growth within its bounds, a cap, and a fresh start."""

from hypothesis import given
from hypothesis import strategies as st
from session_service_client.backoff import DecorrelatedJitter

unit = st.floats(0, 1, exclude_max=True)


def jitter(random: float) -> DecorrelatedJitter:
    return DecorrelatedJitter(lambda: random, first_s=0.25, base_s=0.5, cap_s=10.0)


def test_the_first_wait_is_short_and_the_later_ones_grow_to_the_cap() -> None:
    backoff = jitter(0.999999)
    waits = [backoff.next_s() for _ in range(8)]
    assert waits[0] < 0.25
    assert [round(one, 2) for one in waits[1:4]] == [1.5, 4.5, 10.0]
    assert waits[4:] == [10.0] * 4


def test_without_luck_it_stays_at_the_base() -> None:
    backoff = jitter(0.0)
    assert [backoff.next_s() for _ in range(4)] == [0.0, 0.5, 0.5, 0.5]


def test_a_reset_makes_the_next_wait_short_again() -> None:
    backoff = jitter(0.5)
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 0.125


def test_as_many_waits_are_short_as_there_are_places_to_try() -> None:
    backoff = DecorrelatedJitter(lambda: 0.999999, first_s=0.25, base_s=0.5, cap_s=10.0, short=3)
    for _ in range(2):
        waits = [round(backoff.next_s(), 2) for _ in range(5)]
        assert waits == [0.25, 0.25, 0.25, 1.5, 4.5]
        backoff.reset()


@given(st.lists(unit, min_size=2, max_size=40))
def test_every_wait_lies_between_the_base_and_three_times_the_last(randoms: list[float]) -> None:
    draws = iter(randoms)
    backoff = DecorrelatedJitter(lambda: next(draws), first_s=0.25, base_s=0.5, cap_s=10.0)
    assert 0 <= backoff.next_s() < 0.25
    last_s = 0.5
    for _ in randoms[1:]:
        wait_s = backoff.next_s()
        assert 0.5 <= wait_s <= min(10.0, max(0.5, 3 * last_s))
        last_s = wait_s
