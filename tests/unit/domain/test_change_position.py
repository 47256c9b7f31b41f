"""Positions in the changes of many transactions that end in another order than they begin in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.change_position import MAX_LISTED, RESUME_WINDOW_S, ChangePosition
from session_service.domain.snapshot import Snapshot

ORIGIN = "7574901234567890123-00000001-6f1c"
XIDS = range(100, 120)


def snapshot(ended: set[int]) -> Snapshot:
    """As PostgreSQL takes it: the next one after the last that ended, and those before that had not."""
    xmax = max(ended, default=XIDS.start - 1) + 1
    in_progress = tuple(xid for xid in range(XIDS.start, xmax) if xid not in ended)
    return Snapshot(min(in_progress, default=xmax), xmax, in_progress)


def position(taken: Snapshot, *, at_s: int = 1_763_665_321, origin: str = ORIGIN) -> ChangePosition:
    return ChangePosition(origin, at_s, taken)


xid_sets = st.sets(st.sampled_from(XIDS))


@given(xid_sets, xid_sets, st.sampled_from(XIDS))
def test_half_way_everything_counts_as_told_that_was_and_nothing_else(
    before: set[int], more: set[int], xid: int
) -> None:
    start, after = snapshot(before), snapshot(before | more | {xid})
    reached = position(start).reached(after, xid).snapshot
    for one in XIDS:
        # What has ended without a change of a session counts as told once it has been passed.
        assert reached.sees(one) == (start.sees(one) or (after.sees(one) and one <= xid)), one
    assert list(reached.in_progress) == sorted(reached.in_progress)
    assert all(reached.xmin <= one < reached.xmax for one in reached.in_progress)


@given(xid_sets)
def test_an_id_leads_back_to_its_position(ended: set[int]) -> None:
    here = position(snapshot(ended))
    assert ChangePosition.parse(here.event_id.decode()) == here


def test_an_id_with_very_many_in_progress_is_one_from_before_them() -> None:
    many = tuple(range(100, 100 + MAX_LISTED + 1))
    here = position(Snapshot(100, 1000, many))
    assert ChangePosition.parse(here.event_id.decode()) == position(Snapshot.before(100))
    assert len(position(Snapshot(10**18, 2 * 10**18, tuple(range(10**18, 10**18 + MAX_LISTED)))).event_id) < 4096
    longest = position(Snapshot(10**18, 2 * 10**18, tuple(range(10**18, 10**18 + MAX_LISTED))))
    assert ChangePosition.parse(longest.event_id.decode()) == longest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "1:2:3",
        f"1763665321:100:105:100,102:{ORIGIN}:x",
        f"1763665321:100:105:102,100:{ORIGIN}",
        f"1763665321:100:105:100,100:{ORIGIN}",
        f"1763665321:100:105:99:{ORIGIN}",
        f"1763665321:100:105:105:{ORIGIN}",
        f"1763665321:100:105:100,:{ORIGIN}",
        f"1763665321:105:100::{ORIGIN}",
        f"1763665321:-1:100::{ORIGIN}",
        f"1763665321:100:{2**63}::{ORIGIN}",
        f"1763665321:١٠٠:105::{ORIGIN}",
        f"1763665321:100:105::{ORIGIN}\n",
        "1763665321:100:105::",
        "1763665321:100:105::../../etc",
    ],
)
def test_what_is_no_id_of_ours(text: str) -> None:
    assert ChangePosition.parse(text) is None


def test_where_one_can_go_on_from() -> None:
    here = position(Snapshot.before(200))
    old = position(Snapshot.before(100), at_s=here.at_s - RESUME_WINDOW_S)
    assert here.why_not_from(here) is None
    assert here.why_not_from(old) is None
    assert here.why_not_from(position(Snapshot.before(100), at_s=old.at_s - 1)) == "too_old"
    assert here.why_not_from(position(Snapshot.before(100), at_s=here.at_s + 3600)) == "too_old"
    assert here.why_not_from(position(Snapshot.before(201))) == "other_history"
    assert here.why_not_from(position(Snapshot.before(100), origin="8-00000001-6f1c")) == "other_history"
