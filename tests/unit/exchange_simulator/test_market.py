"""The background market: always quoted, never crossed, moving."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange_simulator.market import MAX_PRICE, MIN_TOUCH_SIZE, Market
from exchange_simulator.order_book import Order, Side


def assert_sound(market: Market) -> None:
    bid, ask, bid_size, ask_size, last_price, last_size = market.quote()
    assert 0 < bid < ask
    assert bid_size >= MIN_TOUCH_SIZE
    assert ask_size >= MIN_TOUCH_SIZE
    assert last_price > 0
    assert last_size > 0


def test_touches_are_never_thin_over_many_steps() -> None:
    market = Market(19_000, Random(7))
    for _ in range(20_000):
        market.step()
        assert_sound(market)


prices = st.one_of(st.integers(18_950, 19_050), st.sampled_from([1, 2, 3, 50, 18_000, 20_000, MAX_PRICE]))
quantities = st.one_of(st.integers(1, 3_000), st.integers(1, 2**31 - 1))
steps = st.just("step")
orders = st.tuples(st.sampled_from(Side), prices, quantities, st.booleans())
cancels = st.integers(0, 40)


@given(st.integers(0, 3), st.lists(st.one_of(steps, orders, cancels), max_size=40))
@settings(deadline=None, max_examples=150)
def test_no_order_of_a_user_leaves_a_thin_or_crossed_market(
    seed: int, commands: list[str | tuple[Side, int, int, bool] | int]
) -> None:
    market = Market(19_000, Random(seed))
    placed: list[Order] = []
    for command in commands:
        if isinstance(command, tuple):
            side, price, quantity, is_market = command
            order = Order(side, price, quantity, owner=f"user {len(placed)}")
            placed.append(order)
            market.trade(order, is_market=is_market)
        elif isinstance(command, int):
            if command < len(placed):
                market.cancel(placed[command])
        else:
            market.step()
        assert_sound(market)


@pytest.mark.parametrize("opening_price", [19_000, 60, 400_000_000])
def test_prices_move_but_not_wildly(opening_price: int) -> None:
    market = Market(opening_price, Random(3))
    lasts = []
    for _ in range(6_000):  # ten minutes
        market.step()
        lasts.append(market.last_price)
    assert len(set(lasts)) > 5
    assert max(lasts) < opening_price * 1.1 + 20
    assert min(lasts) > opening_price * 0.9 - 20


def test_the_seed_decides_the_prices() -> None:
    def path(seed: int) -> list[tuple[int, int, int, int, int, int]]:
        market = Market(19_000, Random(seed))
        quotes = []
        for _ in range(500):
            market.step()
            quotes.append(market.quote())
        return quotes

    assert path(1) == path(1)
    assert path(1) != path(2)


def test_a_large_order_priced_through_the_market_is_filled_over_several_steps() -> None:
    market = Market(19_000, Random(5))
    order = Order(Side.BUY, 19_004, 20_000, owner="user")
    own, absorbed = market.trade(order, is_market=False)
    assert own
    assert not absorbed
    after_trade = order.remaining
    assert after_trade > 0
    filled_in: list[int] = []
    for step in range(400):
        filled = sum(quantity for _, quantity in market.step())
        if filled:
            filled_in.append(step)
    assert len(filled_in) > 3
    assert order.remaining < after_trade


def test_buying_pushes_the_price_up() -> None:
    bought, untouched = Market(19_000, Random(9)), Market(19_000, Random(9))
    for _ in range(20):
        bought.trade(Order(Side.BUY, 0, 1_000, owner="user"), is_market=True)
        for market in (bought, untouched):
            market.step()
    assert bought.quote()[0] > untouched.quote()[0]
