"""A pod that renews is never declared dead; one that stopped is; whoever could not look declares nobody."""

from __future__ import annotations

import random
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.liveness import LOOKS_NEEDED, LivenessObserver, PodState

LEASE_S = 9.0
ROUND_S = LEASE_S / 3


def pod(beat: int, name: str = "other", *, draining: bool = False, dead: bool = False) -> PodState:
    return PodState(f"{name}#1", name, beat, draining, dead)


class Pod:
    """One that renews at least every third of the lease, from ``first_s`` on, until ``stops_s``."""

    def __init__(self, seed: int, first_s: float, stops_s: float = float("inf")) -> None:
        chance = random.Random(seed)
        self._renewals = []
        at = first_s
        while at < min(stops_s, 500.0):
            self._renewals.append(at)
            at += chance.uniform(0.05, 1.0) * ROUND_S

    def beat_at(self, now_s: float) -> int:
        return sum(renewed <= now_s for renewed in self._renewals)


def looks(observer: LivenessObserver, beat: int, times_s: list[float]) -> list[float]:
    """When the pod was found dead."""
    return [now_s for now_s in times_s if observer.look(now_s, [pod(beat)])]


def test_a_beat_that_stands_still_for_a_lease_over_enough_looks_is_a_death() -> None:
    assert looks(LivenessObserver(LEASE_S), 7, [0.0, 3.0, 6.0, 8.9, 9.0]) == [9.0]


def test_a_whole_lease_is_not_enough_with_too_few_looks() -> None:
    assert LOOKS_NEEDED == 3
    assert looks(LivenessObserver(LEASE_S), 7, [0.0, 4.5, 9.0]) == []
    assert looks(LivenessObserver(LEASE_S), 7, [0.0, 4.5, 9.0, 9.1]) == [9.1]


def test_many_looks_are_not_enough_within_a_lease() -> None:
    assert looks(LivenessObserver(LEASE_S), 7, [number / 10 for number in range(90)]) == []


def test_a_beat_that_moves_begins_the_observation_anew() -> None:
    observer = LivenessObserver(LEASE_S)
    assert looks(observer, 7, [0.0, 3.0, 6.0]) == []
    assert looks(observer, 8, [8.5, 11.5, 14.5, 17.25]) == []
    assert looks(observer, 8, [17.5]) == [17.5]


def test_a_beat_that_falls_back_is_a_change_too() -> None:
    """PostgreSQL was restored to an earlier state: nothing was seen to stand still."""
    observer = LivenessObserver(LEASE_S)
    assert looks(observer, 7, [0.0, 3.0, 6.0]) == []
    assert looks(observer, 6, [9.0, 12.0]) == []


def test_the_dead_are_passed_over_and_the_draining_are_watched() -> None:
    observer = LivenessObserver(LEASE_S)
    both = [pod(1, "dead", dead=True), pod(1, "draining", draining=True)]
    found = [observer.look(now_s, both) for now_s in (0.0, 3.0, 6.0, 9.0)]
    assert found == [[], [], [], [pod(1, "draining", draining=True)]]


def test_a_row_that_was_missing_for_a_look_is_observed_anew() -> None:
    observer = LivenessObserver(LEASE_S)
    assert looks(observer, 7, [0.0, 3.0, 6.0]) == []
    observer.look(7.0, [])
    assert looks(observer, 7, [9.0, 12.0, 15.0]) == []


@pytest.mark.parametrize("failed_at_s", [1.0, 4.0, 8.9])
def test_a_failed_look_begins_the_observation_anew(failed_at_s: float) -> None:
    observer = LivenessObserver(LEASE_S)
    times_s = [0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0]
    assert looks(observer, 7, [now_s for now_s in times_s if now_s < failed_at_s]) == []
    observer.interrupted()
    after = [now_s for now_s in times_s if now_s > failed_at_s]
    assert looks(observer, 7, after) == [now_s for now_s in after if now_s >= after[0] + LEASE_S]


def test_an_observer_that_stood_still_begins_anew() -> None:
    observer = LivenessObserver(LEASE_S)
    assert looks(observer, 7, [0.0, 3.0, 6.0]) == []
    assert looks(observer, 7, [15.1, 18.1, 21.1, 24.0]) == []
    assert looks(observer, 7, [24.2]) == [24.2]


# --- a pod and an observer whose looks fail and pause as they like ------------------------------------------------

Passes: TypeAlias = list[tuple[float, bool]]  # how long after the one before, and whether PostgreSQL answered
passes_of_an_observer = st.lists(st.tuples(st.floats(0.01, 3 * LEASE_S), st.booleans()), min_size=1, max_size=60)


@given(st.integers(0, 2**32), st.floats(-ROUND_S, 0.0), passes_of_an_observer)
def test_a_pod_that_renews_is_never_declared_dead(
    seed: int, first_s: float, passes: list[tuple[float, bool]]
) -> None:
    renewing = Pod(seed, first_s)
    observer = LivenessObserver(LEASE_S)
    now_s = 0.0
    for gap_s, succeeds in passes:
        now_s = min(now_s + gap_s, 490.0)
        if succeeds:
            assert observer.look(now_s, [pod(renewing.beat_at(now_s))]) == []
        else:
            observer.interrupted()


@given(st.integers(0, 2**32), st.floats(0.0, 30.0), st.lists(st.floats(0.9, 1.1), min_size=60, max_size=60))
def test_a_pod_that_stopped_is_declared_dead_within_a_lease_and_two_rounds(
    seed: int, stops_s: float, jitter: list[float]
) -> None:
    stopped = Pod(seed, 0.0, stops_s)
    observer = LivenessObserver(LEASE_S)
    now_s = 0.0
    longest_round_s = 1.1 * ROUND_S
    for factor in jitter:
        now_s += factor * ROUND_S
        if observer.look(now_s, [pod(stopped.beat_at(now_s))]):
            assert now_s > stops_s
            assert now_s <= stops_s + LEASE_S + 2 * longest_round_s
            return
    raise AssertionError(f"never declared dead, until {now_s}")


@given(passes_of_an_observer)
def test_whoever_was_cut_off_or_frozen_needs_a_whole_lease_and_enough_looks_anew(passes: Passes) -> None:
    """The pod has stopped for good: what counts is how long and how often the observer has looked without a break."""
    observer = LivenessObserver(LEASE_S)
    now_s, unbroken = 0.0, list[float]()
    for gap_s, succeeds in passes:
        now_s += gap_s
        if not succeeds:
            observer.interrupted()
            unbroken = []
            continue
        if unbroken and now_s - unbroken[-1] > LEASE_S:
            unbroken = []
        unbroken.append(now_s)
        expected = len(unbroken) > LOOKS_NEEDED and now_s - unbroken[0] >= LEASE_S
        assert bool(observer.look(now_s, [pod(7)])) is expected


@given(
    st.floats(0.0, 20 * LEASE_S),
    st.lists(st.tuples(st.floats(0.0, ROUND_S), st.floats(0.0, ROUND_S)), min_size=2, max_size=4),
)
def test_an_outage_of_postgresql_kills_nobody(outage_s: float, offsets: list[tuple[float, float]]) -> None:
    """All renew and look once a round, cannot during the outage, and go on within a round after it."""
    begins_s, ends_s = 5 * ROUND_S, 5 * ROUND_S + outage_s
    beats = [0] * len(offsets)
    observers = [LivenessObserver(LEASE_S) for _ in offsets]
    passes: list[tuple[float, int]] = []
    for index, (before_s, after_s) in enumerate(offsets):
        passes += [(before_s + number * ROUND_S, index) for number in range(int(ends_s / ROUND_S) + 1)]
        passes = [(at_s, one) for at_s, one in passes if one != index or at_s < ends_s]
        passes += [(ends_s + after_s + number * ROUND_S, index) for number in range(8)]
    for now_s, index in sorted(passes):
        if begins_s <= now_s < ends_s:
            observers[index].interrupted()
            continue
        beats[index] += 1
        others = [pod(beat, f"pod-{other}") for other, beat in enumerate(beats) if other != index]
        assert observers[index].look(now_s, others) == []
