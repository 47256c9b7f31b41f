import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.aiokit.backoff import Backoff, jittered


def test_doubles_up_to_its_cap() -> None:
    backoff = Backoff(first_s=0.5, max_s=3.0, jitter=0.0)
    assert [backoff.delay_s(failures, lambda: 0.5) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(("random", "delay_s"), [(0.0, 9.0), (0.5, 10.0), (1.0, 11.0)])
def test_jitter_spreads_both_ways(random: float, delay_s: float) -> None:
    assert jittered(10.0, 0.1, lambda: random) == pytest.approx(delay_s)


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True), st.floats(0, 1))
def test_stays_within_the_cap_after_any_number_of_failures(failures: int, random: float, jitter: float) -> None:
    delay_s = Backoff(first_s=0.1, max_s=30.0, jitter=jitter).delay_s(failures, lambda: random)
    assert 0 <= delay_s <= 30.0 * (1 + jitter) * (1 + 1e-9)
