"""What a client knows, over one socket and over two that overlap."""

from hypothesis import given
from hypothesis import strategies as st
from session_service_client.events import ExchangeData, OrderUpdate, Portfolio, Position, Quote
from session_service_client.exchange_view import MAX_DONE_ORDERS, ExchangeView


def quote(symbol: str, bid: float) -> Quote:
    return Quote(symbol, bid, bid + 1, 1, 1, bid, 1)


def order(order_id: str, sequence: int, status: str = "OPEN") -> OrderUpdate:
    return OrderUpdate(order_id, "AAPL", status, 0, 0.0, sequence, None)


def data(first: int, last: int, *, epoch: int = 7, snapshot: bool = False, **fields: object) -> ExchangeData:
    made = {"quotes": (), "order_updates": (), "portfolio": None, **fields}
    return ExchangeData(epoch, first, last, snapshot, 0, **made)  # type: ignore[arg-type] # named by each test


def test_a_view_says_what_is_in_it() -> None:
    view = ExchangeView()
    assert repr(view) == "ExchangeView(None, 0 quotes (), 0 orders, None)"
    quotes = tuple(quote(symbol, 1) for symbol in "LKJIHGFEDCBA")
    view.apply(
        data(1, 1, snapshot=True, quotes=quotes, order_updates=(order("o", 1),), portfolio=Portfolio((), 1, 2))
    )
    assert repr(view) == (
        "ExchangeView(Position(epoch=7, sequence=1), 12 quotes (A, B, C, D, E, F, G, H, I, J, …), 1 orders, "
        "Portfolio(positions=(), cash_balance=1, total_value=2))"
    )


def test_an_update_replaces_what_it_names() -> None:
    view = ExchangeView()
    portfolio = Portfolio((), 1.0, 2.0)
    view.apply(data(1, 1, snapshot=True, quotes=(quote("A", 1), quote("B", 1)), portfolio=portfolio))
    view.apply(data(2, 2, quotes=(quote("A", 2),), order_updates=(order("o", 2),)))
    assert view.position == Position(7, 2)
    assert (view.quotes["A"].bid, view.quotes["B"].bid) == (2, 1)
    assert view.orders["o"].sequence == 2
    assert view.portfolio == portfolio


def test_a_snapshot_replaces_everything() -> None:
    view = ExchangeView()
    view.apply(data(1, 1, snapshot=True, quotes=(quote("A", 1),), order_updates=(order("o", 1),)))
    view.apply(data(1, 1, epoch=8, snapshot=True, quotes=(quote("B", 1),)))
    assert set(view.quotes) == {"B"}
    assert view.orders == {}
    assert view.portfolio is None
    assert view.position == Position(8, 1)


def test_a_refresh_at_the_present_position_is_told() -> None:
    view = ExchangeView()
    view.apply(data(5, 5, snapshot=True))
    refreshed = data(5, 5, snapshot=True, quotes=(quote("A", 1),))
    assert view.apply(refreshed) is refreshed


def test_what_the_other_socket_delivered_already_is_nothing_new() -> None:
    view = ExchangeView()
    view.apply(data(10, 10, snapshot=True))
    assert view.apply(data(8, 9, order_updates=(order("o", 9),))) is None
    assert view.apply(data(9, 9, snapshot=True)) is None
    assert view.orders == {}
    assert view.position == Position(7, 10)


def test_of_a_frame_that_is_partly_known_only_the_rest_counts() -> None:
    view = ExchangeView()
    view.apply(data(10, 10, snapshot=True, order_updates=(order("o", 10, "OPEN"),)))
    applied = view.apply(data(9, 12, order_updates=(order("p", 9), order("o", 10, "OPEN"), order("o", 12, "FILLED"))))
    assert applied is not None
    assert (applied.from_sequence, applied.sequence) == (11, 12)
    assert [one.sequence for one in applied.order_updates] == [12]
    assert view.orders["o"].status == "FILLED"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=20), st.integers(0, 40), st.integers(0, 20))
def test_over_two_sockets_each_order_update_is_applied_once_and_in_order(
    merges: list[int], old_ran_to: int, opened_at: int
) -> None:
    """The new socket begins where the client was when it opened; the old one ran on until it was left."""
    total = sum(merges)
    old_ran_to, opened_at = min(old_ran_to, total), min(opened_at, old_ran_to, total)
    view = ExchangeView()
    view.apply(data(0, 0, snapshot=True))
    applied = [
        view.apply(data(number, number, order_updates=(order("o", number),))) for number in range(1, old_ran_to + 1)
    ]
    position = opened_at
    for length in merges:
        first, last = position + 1, min(position + length, total)
        if last < first:
            break
        updates = tuple(order("o", number) for number in range(first, last + 1))
        applied.append(view.apply(data(first, last, order_updates=updates)))
        position = last
    numbers = [update.sequence for one in applied if one is not None for update in one.order_updates]
    assert numbers == list(range(1, max(old_ran_to, position) + 1))


def test_done_orders_are_bounded_and_open_ones_stay() -> None:
    view = ExchangeView()
    view.apply(
        data(1, 1, snapshot=True, order_updates=(order("open", 1, "NEW"), order("part", 1, "PARTIALLY_FILLED")))
    )
    for number in range(2, MAX_DONE_ORDERS + 4):
        view.apply(data(number, number, order_updates=(order(f"order-{number}", number, "FILLED"),)))
    done = set(view.orders) - {"open", "part"}
    assert len(done) == MAX_DONE_ORDERS
    assert {"order-2", "order-3"}.isdisjoint(done)
    last = MAX_DONE_ORDERS + 4
    view.apply(data(last, last, order_updates=(order("open", last, "CANCELED"),)))
    assert "order-4" not in view.orders
    assert {"open", "part", "order-5"} <= set(view.orders)
