"""The engine: numbering, orders, portfolio, determinism."""

import hashlib
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange_api.exchange_pb2 import ExchangeDataUpdate, MarketData, OrderUpdate
from exchange_simulator.engine import Engine, OrderTicket, Update
from exchange_simulator.order_book import Side
from exchange_simulator.orders import MAX_CLOSED_ORDERS, MAX_OPEN_ORDERS, OrderStatus

SYMBOLS = ("AAPL", "MSFT")
EPOCH = 77
NOW_MS = 1_700_000_000_000


def new_engine(*, seed: int = 1, cash_cents: int = 10_000_000, allow_short: bool = False) -> Engine:
    engine = Engine(epoch=EPOCH, seed=seed, symbols=SYMBOLS, cash_cents=cash_cents, allow_short=allow_short)
    engine.open(NOW_MS)
    return engine


def decoded(update: Update) -> ExchangeDataUpdate:
    return ExchangeDataUpdate.FromString(update.encoded)


def state_of(engine: Engine) -> ExchangeDataUpdate:
    return ExchangeDataUpdate.FromString(engine.snapshot(NOW_MS))


def buy(quantity: float, limit_price: float | None = None, symbol: str = "AAPL") -> OrderTicket:
    return OrderTicket(symbol, Side.BUY, quantity, limit_price)


def sell(quantity: float, limit_price: float | None = None, symbol: str = "AAPL") -> OrderTicket:
    return OrderTicket(symbol, Side.SELL, quantity, limit_price)


def ask_of(engine: Engine, symbol: str = "AAPL") -> float:
    return next(quote.ask for quote in state_of(engine).market_data if quote.symbol == symbol)


def stream_digest(seed: int) -> str:
    """Of 3,000 ticks with orders among them."""
    engine = Engine(epoch=EPOCH, seed=seed, symbols=SYMBOLS, cash_cents=10_000_000)
    digest = hashlib.sha256(engine.open(NOW_MS).encoded)
    open_ids: list[str] = []
    for number in range(3_000):
        now_ms = NOW_MS + number * 100
        digest.update(engine.tick(now_ms).encoded)
        if number % 7 == 0:
            order, update = engine.submit_order(buy(1 + number % 5, 180 + number % 15), now_ms)
            digest.update(update.encoded)
            open_ids.append(order.order_id)
        if number % 11 == 0 and open_ids:
            _, cancelled = engine.cancel_order(open_ids.pop(0), now_ms)
            digest.update(cancelled.encoded if cancelled else b"-")
    digest.update(engine.snapshot(NOW_MS))
    return digest.hexdigest()


def test_same_seed_and_commands_give_the_same_stream() -> None:
    assert stream_digest(1) == stream_digest(1)
    assert stream_digest(1) != stream_digest(2)


def test_the_stream_does_not_depend_on_the_process() -> None:
    code = (
        "from exchange_simulator.engine import Engine; import hashlib\n"
        "engine = Engine(epoch=77, seed=5, symbols=('AAPL', 'ZZZ'), cash_cents=100)\n"
        "print(hashlib.sha256(b''.join(engine.tick(n).encoded for n in range(500))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_every_update_has_the_next_number() -> None:
    engine = Engine(epoch=EPOCH, seed=1, symbols=SYMBOLS, cash_cents=10_000_000)
    updates = [engine.open(NOW_MS), engine.tick(NOW_MS + 100), engine.submit_order(buy(1), NOW_MS + 120)[1]]
    messages = [decoded(update) for update in updates]
    assert [(m.from_sequence, m.sequence, m.epoch, m.snapshot) for m in messages] == [
        (1, 1, EPOCH, False),
        (2, 2, EPOCH, False),
        (3, 3, EPOCH, False),
    ]
    assert [m.timestamp for m in messages] == [NOW_MS, NOW_MS + 100, NOW_MS + 120]


def test_the_first_update_has_every_quote_and_the_portfolio() -> None:
    engine = Engine(epoch=EPOCH, seed=1, symbols=SYMBOLS, cash_cents=10_000_000)
    first = decoded(engine.open(NOW_MS))
    assert [quote.symbol for quote in first.market_data] == list(SYMBOLS)
    assert first.portfolio.cash_balance == first.portfolio.total_value == 100_000.0


def test_updates_over_the_first_amount_to_the_snapshot() -> None:
    engine = Engine(epoch=EPOCH, seed=3, symbols=SYMBOLS, cash_cents=10_000_000)
    quotes: dict[str, MarketData] = {}
    orders: dict[str, OrderUpdate] = {}
    updates = [engine.open(NOW_MS)]
    for number in range(200):
        updates.append(engine.tick(NOW_MS))
        if number % 10 == 0:
            updates.append(engine.submit_order(buy(3, 188 + number % 4), NOW_MS)[1])
    for update in updates:
        message = decoded(update)
        quotes |= {quote.symbol: quote for quote in message.market_data}
        orders |= {order.order_id: order for order in message.order_updates}
        if message.HasField("portfolio"):
            portfolio = message.portfolio
    snapshot = state_of(engine)
    assert snapshot.snapshot
    assert snapshot.sequence == snapshot.from_sequence == updates[-1].sequence
    assert {quote.symbol: quote for quote in snapshot.market_data} == quotes
    assert {order.order_id: order for order in snapshot.order_updates} == orders
    assert snapshot.portfolio == portfolio


def test_a_market_order_is_filled_at_the_ask_at_once() -> None:
    engine = new_engine()
    ask = ask_of(engine)
    order, update = engine.submit_order(buy(50), NOW_MS)
    message = decoded(update)
    assert (order.status, order.filled, order.average_price) == (OrderStatus.FILLED, 50, ask)
    told = message.order_updates[0]
    assert (told.order_id, told.status, told.filled_quantity) == (order.order_id, "FILLED", 50)
    assert told.sequence == message.sequence
    assert message.portfolio.cash_balance == pytest.approx(100_000 - 50 * ask)
    assert message.portfolio.positions[0].average_cost == pytest.approx(ask)


def test_a_market_order_beyond_the_depth_is_cancelled_for_the_rest() -> None:
    engine = new_engine(cash_cents=10**14)
    order, update = engine.submit_order(buy(1_000_000), NOW_MS)
    assert order.status is OrderStatus.CANCELED
    assert 0 < order.filled < 1_000_000
    assert decoded(update).order_updates[0].reason == "not enough depth"


def test_a_limit_order_beyond_the_depth_stays_partially_filled() -> None:
    engine = new_engine(cash_cents=10**14)
    order, _ = engine.submit_order(buy(1_000_000, 195), NOW_MS)
    assert order.status is OrderStatus.PARTIALLY_FILLED
    assert engine.order(order.order_id) is order


def test_a_resting_order_is_filled_when_the_market_comes_to_it() -> None:
    engine = new_engine()
    order, _ = engine.submit_order(buy(10, ask_of(engine) - 0.02), NOW_MS)
    assert order.status is OrderStatus.NEW
    for number in range(20_000):
        message = decoded(engine.tick(NOW_MS + number))
        if message.order_updates:
            break
    assert [(told.order_id, told.status) for told in message.order_updates] == [(order.order_id, "FILLED")]
    assert message.order_updates[0].sequence == message.sequence == order.sequence


@pytest.mark.parametrize(
    ("ticket", "reason"),
    [
        (buy(1, symbol="NOPE"), "unknown symbol"),
        (OrderTicket("AAPL", 7, 1, None), "unknown side"),
        (buy(0), "quantity"),
        (buy(-1), "quantity"),
        (buy(1.5), "quantity"),
        (buy(2**31), "quantity"),
        (buy(math.nan), "quantity"),
        (buy(math.inf), "quantity"),
        (buy(1, 0), "price"),
        (buy(1, -1), "price"),
        (buy(1, 0.001), "price"),
        (buy(1, 100.005), "price"),
        (buy(1, math.nan), "price"),
        (buy(1, math.inf), "price"),
        (buy(1_000, 190), "insufficient cash"),
        (buy(1_000), "insufficient cash"),
        (sell(1), "insufficient position"),
        (sell(1, 190), "insufficient position"),
    ],
)
def test_an_order_that_may_not_be_placed_is_rejected_and_told(ticket: OrderTicket, reason: str) -> None:
    engine = new_engine()
    before = state_of(engine).portfolio
    order, update = engine.submit_order(ticket, NOW_MS)
    assert order.status is OrderStatus.REJECTED
    assert reason in order.reason
    told = decoded(update).order_updates[0]
    assert (told.order_id, told.status, told.reason) == (order.order_id, "REJECTED", order.reason)
    assert state_of(engine).portfolio == before


@pytest.mark.parametrize("price", [190.01, 0.1 + 0.2, 9_999_999.99])
def test_prices_on_a_tick_are_recognised_whatever_doubles_make_of_them(price: float) -> None:
    order, _ = new_engine(cash_cents=10**14).submit_order(buy(1, price), NOW_MS)
    assert order.status is not OrderStatus.REJECTED


def test_cancelling_gives_back_what_was_reserved() -> None:
    engine = new_engine(cash_cents=100_00)
    order, _ = engine.submit_order(buy(10, 10), NOW_MS)
    assert engine.submit_order(buy(1, 0.01), NOW_MS)[0].status is OrderStatus.REJECTED
    objection, update = engine.cancel_order(order.order_id, NOW_MS)
    assert objection == ""
    assert update is not None
    assert [(told.order_id, told.status) for told in decoded(update).order_updates] == [(order.order_id, "CANCELED")]
    assert engine.submit_order(buy(10, 10), NOW_MS)[0].status is OrderStatus.NEW


def test_only_an_open_order_can_be_cancelled() -> None:
    engine = new_engine()
    order, _ = engine.submit_order(buy(1), NOW_MS)
    assert engine.cancel_order(order.order_id, NOW_MS) == ("order is FILLED", None)
    assert engine.cancel_order("nobody's", NOW_MS) == ("unknown order", None)


def test_short_selling_where_it_is_allowed() -> None:
    engine = new_engine(allow_short=True)
    order, update = engine.submit_order(sell(10), NOW_MS)
    assert order.status is OrderStatus.FILLED
    position = decoded(update).portfolio.positions[0]
    assert position.quantity == -10
    assert position.average_cost == pytest.approx(order.average_price)
    assert position.market_value < 0


def test_open_orders_are_limited() -> None:
    engine = new_engine()
    for _ in range(MAX_OPEN_ORDERS):
        assert engine.submit_order(buy(1, 0.01), NOW_MS)[0].status is OrderStatus.NEW
    order, _ = engine.submit_order(buy(1, 0.01), NOW_MS)
    assert order.reason == "too many open orders"
    assert engine.submit_order(buy(1), NOW_MS)[0].status is OrderStatus.FILLED


def test_the_longest_closed_orders_are_forgotten_open_ones_never() -> None:
    engine = new_engine()
    resting, _ = engine.submit_order(buy(1, 0.01), NOW_MS)
    closed = [engine.submit_order(buy(0), NOW_MS)[0] for _ in range(MAX_CLOSED_ORDERS + 5)]
    remembered = [order.order_id for order in state_of(engine).order_updates]
    assert remembered == [resting.order_id, *(order.order_id for order in closed[5:])]
    assert engine.order(closed[0].order_id) is None
    assert engine.order(resting.order_id) is resting


order_commands = st.tuples(
    st.sampled_from([Side.BUY, Side.SELL]),
    st.integers(1, 400),
    st.one_of(st.none(), st.integers(18_980, 19_020)),
)


@given(st.integers(0, 5), st.lists(st.one_of(order_commands, st.integers(0, 30), st.just("tick")), max_size=40))
@settings(deadline=None, max_examples=100)
def test_money_and_shares_are_conserved_and_never_overdrawn(
    seed: int, commands: list[tuple[Side, int, int | None] | int | str]
) -> None:
    engine = new_engine(seed=seed)
    order_ids: list[str] = []
    for command in commands:
        if isinstance(command, tuple):
            side, quantity, ticks = command
            price = None if ticks is None else ticks / 100
            order, _ = engine.submit_order(OrderTicket("AAPL", side, quantity, price), NOW_MS)
            order_ids.append(order.order_id)
        elif isinstance(command, int):
            if command < len(order_ids):
                engine.cancel_order(order_ids[command], NOW_MS)
        else:
            engine.tick(NOW_MS)
        orders = [known for order_id in order_ids if (known := engine.order(order_id)) is not None]
        spent = sum(order.cost_cents * (1 if order.side is Side.BUY else -1) for order in orders)
        held = sum(order.filled * (1 if order.side is Side.BUY else -1) for order in orders)
        portfolio = state_of(engine).portfolio
        assert portfolio.cash_balance == pytest.approx(100_000 - spent / 100)
        assert sum(position.quantity for position in portfolio.positions) == held
        assert held >= 0
        promised = sum(
            (order.quantity - order.filled) * (order.price or 0)
            for order in orders
            if order.is_open and order.side is Side.BUY
        )
        assert round(portfolio.cash_balance * 100) >= promised
