"""Integer money: nothing is made or lost by trading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange_simulator.portfolio import MAX_POSITION, Portfolio

trades = st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 10_000)), max_size=40)


def book(portfolio: Portfolio, delta: int, price_cents: int) -> None:
    if delta > 0:
        portfolio.buy("A", delta, price_cents)
    else:
        portfolio.sell("A", -delta, price_cents)


@given(trades)
def test_cash_and_shares_are_conserved(deltas: list[tuple[int, int]]) -> None:
    portfolio = Portfolio(1_000_000, allow_short=True)
    for delta, price_cents in deltas:
        book(portfolio, delta, price_cents)
    assert portfolio.cash_cents == 1_000_000 - sum(delta * price for delta, price in deltas)
    assert portfolio.position("A").quantity == sum(delta for delta, _ in deltas)


@given(trades)
def test_cost_is_nothing_when_flat_and_between_the_prices_paid_when_not(deltas: list[tuple[int, int]]) -> None:
    portfolio = Portfolio(0, allow_short=True)
    for delta, price_cents in deltas:
        book(portfolio, delta, price_cents)
        position = portfolio.position("A")
        if position.quantity == 0:
            assert position.cost_cents == 0
        else:
            prices = [price for _, price in deltas]
            average = position.cost_cents / abs(position.quantity)
            # Closing a part rounds the cost given up down, by less than a cent each time.
            assert min(prices) <= average <= max(prices) + len(deltas)


def test_average_cost_of_two_purchases_survives_a_partial_sale() -> None:
    portfolio = Portfolio(100_000)
    portfolio.buy("A", 10, 100)
    portfolio.buy("A", 30, 200)
    portfolio.sell("A", 20, 500)
    position = portfolio.position("A")
    assert (position.quantity, position.cost_cents / position.quantity) == (20, 175)


def test_turning_short_begins_a_new_cost() -> None:
    portfolio = Portfolio(100_000, allow_short=True)
    portfolio.buy("A", 10, 100)
    portfolio.sell("A", 15, 300)
    assert (portfolio.position("A").quantity, portfolio.position("A").cost_cents) == (-5, 1_500)


def test_cash_reserved_for_open_orders_cannot_be_spent_twice() -> None:
    portfolio = Portfolio(1_000)
    portfolio.reserve_buy("A", 6, 100)
    assert portfolio.objection_to_buy("A", 4, 400) == ""
    assert portfolio.objection_to_buy("A", 5, 500) == "insufficient cash"
    portfolio.reserve_buy("A", -6, 100)
    assert portfolio.objection_to_buy("A", 10, 1_000) == ""


def test_shares_reserved_for_open_orders_cannot_be_sold_twice() -> None:
    portfolio = Portfolio(10_000)
    portfolio.buy("A", 10, 100)
    portfolio.reserve_sell("A", 6)
    assert portfolio.objection_to_sell("A", 4) == ""
    assert portfolio.objection_to_sell("A", 5) == "insufficient position"


@pytest.mark.parametrize(("allow_short", "objection"), [(False, "insufficient position"), (True, "")])
def test_short_selling_is_a_setting(allow_short: bool, objection: str) -> None:
    assert Portfolio(0, allow_short=allow_short).objection_to_sell("A", 1) == objection


def test_a_position_fits_an_int32() -> None:
    portfolio = Portfolio(10**15, allow_short=True)
    portfolio.buy("A", 5, 1)
    assert portfolio.objection_to_buy("A", MAX_POSITION - 5, 1) == ""
    assert portfolio.objection_to_buy("A", MAX_POSITION - 4, 1) == "position limit reached"
    assert portfolio.objection_to_sell("A", MAX_POSITION + 5) == ""
    assert portfolio.objection_to_sell("A", MAX_POSITION + 6) == "position limit reached"
