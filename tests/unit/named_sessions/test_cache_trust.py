"""Leases of belief: when they count, when they end, and how long a doubt has to wait for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.database.named_sessions import CacheState
from session_service.named_sessions.cache_trust import LEASE_S, CacheTrust, mark_of, settled_of

ORIGIN = "7-00000001-abc"


def state(*, doubted: int = 3, cleared: int = 3, settled: int = 100) -> CacheState:
    return CacheState(doubted, cleared, settled, horizon=settled + 50, origin=ORIGIN, in_order=True)


def test_nothing_is_believed_before_the_first_look() -> None:
    assert not CacheTrust().accepts(mark_of(ORIGIN, 100), 0.0)


def test_a_look_counts_from_when_it_was_asked_for() -> None:
    trust = CacheTrust()
    trust.looked(state(), 10.0, 10.5)
    assert trust.holds(10.0 + LEASE_S - 0.01)
    assert not trust.holds(10.0 + LEASE_S)


def test_only_marks_of_this_history_that_are_new_enough_are_accepted() -> None:
    trust = CacheTrust()
    trust.looked(state(settled=100), 0.0, 0.0)
    for mark in (mark_of(ORIGIN, 100), mark_of(ORIGIN, 101)):
        assert trust.accepts(mark, 0.1)
    for refused in (None, b"", b"nonsense", mark_of(ORIGIN, 99), mark_of("other", 100), b":100", mark_of(ORIGIN, 0)):
        assert not trust.accepts(refused, 0.1)


def test_a_mark_that_was_accepted_is_looked_at_again_after_the_next_look() -> None:
    trust = CacheTrust()
    trust.looked(state(settled=100), 0.0, 0.0)
    assert trust.accepts(mark_of(ORIGIN, 100), 0.1)
    trust.looked(state(settled=101), 0.2, 0.2)
    assert not trust.accepts(mark_of(ORIGIN, 100), 0.3)


def test_a_look_that_finds_a_doubt_ends_the_belief() -> None:
    trust = CacheTrust()
    trust.looked(state(), 0.0, 0.0)
    trust.looked(state(doubted=4), 0.1, 0.1)
    assert not trust.holds(0.1)


def test_the_first_to_doubt_waits_for_all_leases() -> None:
    trust = CacheTrust()
    trust.looked(state(), 0.0, 0.0)
    assert trust.doubted(3, 5.0) == pytest.approx(LEASE_S)
    assert not trust.holds(5.0)


def test_who_doubts_again_waits_for_what_is_left() -> None:
    trust = CacheTrust()
    trust.doubted(3, 5.0)
    assert trust.doubted(3, 5.2) == pytest.approx(LEASE_S - 0.2)
    assert trust.doubted(3, 9.0) == 0.0


def test_a_doubt_that_was_seen_need_not_be_waited_for_again() -> None:
    trust = CacheTrust()
    trust.looked(state(doubted=4, cleared=3), 0.0, 0.0)
    assert trust.doubted(3, LEASE_S) == 0.0


def test_a_doubt_after_one_that_was_cleared_waits_anew() -> None:
    trust = CacheTrust()
    trust.doubted(3, 0.0)
    assert trust.doubted(4, 10.0) == pytest.approx(LEASE_S)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**63))
def test_a_mark_tells_its_number(origin: str, settled: int) -> None:
    assert settled_of(mark_of(origin, settled), origin) == settled
    assert settled_of(mark_of(origin, settled), f"{origin}x") is None


@given(st.binary())
def test_any_bytes_are_a_mark_or_none(mark: bytes) -> None:
    assert settled_of(mark, ORIGIN) is None


@given(st.lists(st.tuples(st.sampled_from(["look", "doubt", "clear", "late look"]), st.integers(0, 2)), max_size=40))
def test_no_pod_believes_a_cache_whose_doubt_was_waited_for(steps: list[tuple[str, int]]) -> None:
    """Looks, doubts and repairs of three pods in any order, 0.15 s apart; answers of looks may come a step late."""
    pods = [CacheTrust() for _ in range(3)]
    doubted = cleared = 0
    now_s = 0.0
    answered_at: float | None = None  # of the last doubt's writer, while that doubt stands
    under_way: dict[int, tuple[CacheState, float]] = {}
    for step, pod in steps:
        now_s += 0.15
        if step == "look":
            under_way[pod] = state(doubted=doubted, cleared=cleared), now_s
        if step == "late look" and pod in under_way:
            seen, asked_at_s = under_way.pop(pod)
            pods[pod].looked(seen, asked_at_s, now_s)
        if step == "doubt":
            doubted += 1
            answered_at = now_s + pods[pod].doubted(cleared, now_s)
        if step == "clear":
            cleared, answered_at = doubted, None
        if answered_at is not None and now_s >= answered_at:
            assert not any(trust.holds(now_s) for trust in pods)
