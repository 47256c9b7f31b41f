"""Updates and their merge: whatever way a list of updates is split, a client ends up with the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.market import (
    MAX_ORDERS,
    Holding,
    MarketState,
    MarketUpdate,
    Numbering,
    OrderUpdate,
    PendingMerge,
    Portfolio,
    Quote,
    SequenceError,
    merge,
    select_symbols,
)

EPOCH = 77
SYMBOLS = ("AAPL", "MSFT", "TSLA")


def quote(symbol: str, price: float) -> Quote:
    return Quote(symbol, price, price + 0.01, 100, 200, price, 5)


def order(order_id: str, sequence: int, status: str = "NEW") -> OrderUpdate:
    return OrderUpdate(order_id, "AAPL", status, 0, 0.0, sequence)


def update(
    sequence: int,
    *,
    quotes: Sequence[Quote] = (),
    orders: Sequence[OrderUpdate] = (),
    portfolio: Portfolio | None = None,
    snapshot: bool = False,
    epoch: int = EPOCH,
) -> MarketUpdate:
    return MarketUpdate(
        epoch, sequence, sequence, snapshot, 1_000 + sequence, tuple(quotes), tuple(orders), portfolio
    )


@st.composite
def update_lists(draw: st.DrawFn) -> list[MarketUpdate]:
    """Successive updates, as a simulator sends them; the first may be a snapshot."""
    first = draw(st.integers(1, 1_000))
    updates = []
    for sequence in range(first, first + draw(st.integers(1, 12))):
        symbols = draw(st.lists(st.sampled_from(SYMBOLS), unique=True))
        order_ids = draw(st.lists(st.sampled_from(("o1", "o2", "o3")), unique=True))
        cash = draw(st.none() | st.floats(0, 1e9))
        updates.append(
            update(
                sequence,
                quotes=[quote(symbol, draw(st.floats(0.01, 1e6))) for symbol in symbols],
                orders=[
                    order(order_id, sequence, draw(st.sampled_from(("NEW", "FILLED")))) for order_id in order_ids
                ],
                portfolio=None if cash is None else Portfolio((Holding("AAPL", 1, 2.0, 3.0),), cash, cash),
                snapshot=sequence == first and draw(st.booleans()),
            )
        )
    return updates


@st.composite
def split_updates(draw: st.DrawFn) -> tuple[list[MarketUpdate], list[list[MarketUpdate]]]:
    updates = draw(update_lists())
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(updates) - 1)))))
    edges = [0, *[cut for cut in cuts if cut < len(updates)], len(updates)]
    return updates, [updates[start:end] for start, end in pairwise(edges)]


def pending(
    updates: Sequence[MarketUpdate], *, max_order_updates: int = 10**6, max_bytes: int = 10**9
) -> PendingMerge:
    made = PendingMerge(updates[0], max_order_updates=max_order_updates, max_bytes=max_bytes)
    for following in updates[1:]:
        made.add(following)
    return made


@given(split_updates())
def test_any_split_merges_to_the_same(case: tuple[list[MarketUpdate], list[list[MarketUpdate]]]) -> None:
    updates, parts = case
    whole = reduce(merge, updates)
    assert reduce(merge, [reduce(merge, part) for part in parts]) == whole
    assert pending(updates).merged() == whole
    assert pending([reduce(merge, part) for part in parts]).merged() == whole


@given(update_lists())
def test_a_merge_covers_its_range_and_keeps_what_a_client_needs(updates: list[MarketUpdate]) -> None:
    merged = reduce(merge, updates)
    assert merged.sequence == updates[-1].sequence
    assert {q.symbol: q for q in merged.quotes} == {q.symbol: q for u in updates for q in u.quotes}
    assert len(merged.quotes) == len({q.symbol for q in merged.quotes})
    portfolios = [u.portfolio for u in updates if u.portfolio is not None]
    assert merged.portfolio == (portfolios[-1] if portfolios else None)
    if updates[0].snapshot:
        assert merged.snapshot
        assert merged.from_sequence == merged.sequence
        assert {o.order_id: o for o in merged.order_updates} == {
            o.order_id: o for u in updates for o in u.order_updates
        }
        assert len(merged.order_updates) == len({o.order_id for o in merged.order_updates})
    else:
        assert not merged.snapshot
        assert merged.from_sequence == updates[0].from_sequence
        assert list(merged.order_updates) == [o for u in updates for o in u.order_updates]


@given(update_lists())
def test_the_state_is_what_a_merge_with_the_first_snapshot_says(updates: list[MarketUpdate]) -> None:
    beginning = update(updates[0].sequence, quotes=[quote("NVDA", 1.0)], snapshot=True)
    state = MarketState(beginning)
    for following in updates[1:]:
        state.apply(following)
    assert state.snapshot() == reduce(merge, [beginning, *updates[1:]])


def test_a_snapshot_replaces_whatever_is_pending() -> None:
    snapshot = update(3, quotes=[quote("TSLA", 9.0)], snapshot=True, epoch=EPOCH + 1)
    assert merge(update(5, orders=[order("o1", 5)]), snapshot) == snapshot
    merged = pending([update(5, orders=[order("o1", 5)]), snapshot])
    assert merged.merged() == snapshot


@pytest.mark.parametrize(
    "second",
    [update(7), update(5), update(4), update(6, epoch=EPOCH + 1)],
    ids=["gap", "repetition", "regression", "other epoch"],
)
@pytest.mark.parametrize("first", [update(5), update(5, snapshot=True)], ids=["update", "snapshot"])
def test_what_does_not_follow_is_refused(first: MarketUpdate, second: MarketUpdate) -> None:
    with pytest.raises(SequenceError):
        merge(first, second)
    with pytest.raises(SequenceError):
        pending([first]).add(second)
    state = MarketState(update(5, snapshot=True))
    with pytest.raises(SequenceError):
        state.apply(second)
    assert state.sequence == 5


def test_order_updates_are_bounded_by_their_number() -> None:
    merged = pending([update(1, orders=[order("o1", 1)])], max_order_updates=2)
    merged.add(update(2, orders=[order("o1", 2)]))
    assert not merged.over_bounds
    merged.add(update(3, orders=[order("o1", 3)]))
    assert merged.over_bounds


def test_bytes_are_bounded_and_quotes_that_replace_each_other_cost_nothing() -> None:
    merged = pending([update(1, quotes=[quote("AAPL", 1.0)])], max_bytes=400)
    for sequence in range(2, 200):
        merged.add(update(sequence, quotes=[quote("AAPL", float(sequence))]))
    assert not merged.over_bounds
    for sequence in range(200, 204):
        merged.add(update(sequence, quotes=[quote(f"S{sequence}", 1.0)]))
    assert merged.over_bounds


def test_a_large_snapshot_is_not_the_readers_fault() -> None:
    snapshot = update(1, orders=[order(f"o{n}", 1) for n in range(50)], snapshot=True)
    merged = pending([snapshot], max_order_updates=5, max_bytes=1_000)
    assert not merged.over_bounds
    for sequence in range(2, 9):
        merged.add(update(sequence, orders=[order("o1", sequence)]))
    assert merged.over_bounds


def test_a_state_forgets_finished_orders_before_it_grows_without_end() -> None:
    state = MarketState(update(1, orders=[order("open", 1)], snapshot=True))
    for sequence in range(2, MAX_ORDERS + 500):
        state.apply(update(sequence, orders=[order(f"o{sequence}", sequence, "FILLED")]))
    known = [known.order_id for known in state.snapshot().order_updates]
    assert len(known) <= MAX_ORDERS
    assert known[0] == "open"
    assert known[-1] == f"o{MAX_ORDERS + 499}"


def test_a_filter_drops_other_quotes_and_nothing_else() -> None:
    whole = update(1, quotes=[quote("AAPL", 1.0), quote("MSFT", 2.0)], orders=[order("o1", 1)])
    selected = select_symbols(whole, frozenset({"MSFT"}))
    assert [q.symbol for q in selected.quotes] == ["MSFT"]
    assert selected.order_updates == whole.order_updates
    assert select_symbols(whole, None) is whole


def test_an_unnumbered_stream_begins_with_all_that_is_known() -> None:
    bare = MarketUpdate(0, 0, 0, False, 5, (quote("AAPL", 1.0),), (order("o1", 0),), None)
    first = Numbering(11).number(bare, None)
    assert (first.epoch, first.from_sequence, first.sequence, first.snapshot) == (11, 1, 1, True)
    known = MarketState(first)
    later = Numbering(12)
    second = later.number(MarketUpdate(0, 0, 0, False, 6, (quote("MSFT", 2.0),), (), None), known)
    assert second.snapshot
    assert [q.symbol for q in second.quotes] == ["AAPL", "MSFT"]
    assert [(o.order_id, o.sequence) for o in second.order_updates] == [("o1", 1)]
    third = later.number(MarketUpdate(0, 0, 0, False, 7, (), (order("o1", 0, "FILLED"),), None), MarketState(second))
    assert (third.epoch, third.from_sequence, third.sequence, third.snapshot) == (12, 2, 2, False)
    assert third.order_updates[0].sequence == 2
