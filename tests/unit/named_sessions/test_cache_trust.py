"""Leases of belief: when they count, when they end, and how long a doubt has to wait for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.database.named_sessions import CacheState
from session_service.domain.snapshot import Snapshot
from session_service.named_sessions.cache_trust import LEASE_S, CacheTrust, Mark, mark_of, read_mark

ORIGIN = "7-00000001-abc"
SETTLED = Snapshot(90, 100, (90, 95))


def state(*, doubted: int = 3, cleared: int = 3, settled: Snapshot = SETTLED) -> CacheState:
    return CacheState(
        doubted, cleared, settled, snapshot=Snapshot.before(settled.xmax + 50), origin=ORIGIN, in_order=True
    )


def mark(xmin: int, xmax: int, in_progress: int = 0, *, origin: str = ORIGIN) -> bytes:
    return f"{origin}:{xmin}:{xmax}:{in_progress}".encode()


def test_nothing_is_believed_before_the_first_look() -> None:
    assert not CacheTrust().accepts(mark(100, 100), 0.0)


def test_a_look_counts_from_when_it_was_asked_for() -> None:
    trust = CacheTrust()
    trust.looked(state(), 10.0, 10.5)
    assert trust.holds(10.0 + LEASE_S - 0.01)
    assert not trust.holds(10.0 + LEASE_S)


def test_only_marks_of_this_history_that_are_new_enough_are_accepted() -> None:
    """Also while a transaction stays open, so that the lowest one in progress says nothing."""
    trust = CacheTrust()
    trust.looked(state(), 0.0, 0.0)
    for good in (mark(90, 100, 2), mark(95, 100, 1), mark(90, 101, 3), mark(200, 200)):
        assert trust.accepts(good, 0.1), good
    for refused in (
        None,
        b"",
        b"nonsense",
        mark(90, 99, 1),
        mark(90, 100, 3),
        mark(100, 100, origin="other"),
        mark(100, 100, origin=""),
        mark(101, 100),
        mark(0, 0),
        mark(1, 10**2000),
    ):
        assert not trust.accepts(refused, 0.1), refused


def test_a_mark_that_was_accepted_is_looked_at_again_after_the_next_look() -> None:
    trust = CacheTrust()
    trust.looked(state(), 0.0, 0.0)
    assert trust.accepts(mark(90, 100, 2), 0.1)
    trust.looked(state(settled=Snapshot(90, 101, (90, 95))), 0.2, 0.2)
    assert not trust.accepts(mark(90, 100, 2), 0.3)


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


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(3, 2**62), st.integers(0, 2**32))
def test_a_mark_tells_its_snapshot(origin: str, xmin: int, more: int) -> None:
    settled = Snapshot(xmin, xmin + 2 + more, (xmin, xmin + 1))
    read = read_mark(mark_of(origin, settled), origin)
    assert read == Mark(settled.xmin, settled.age)
    assert read_mark(mark_of(origin, settled), f"{origin}x") is None


@given(st.binary())
def test_any_bytes_are_a_mark_or_none(found: bytes) -> None:
    assert read_mark(found, ORIGIN) is None


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
