"""The order book against a model too simple to be wrong: two sorted lists."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from exchange_simulator.order_book import Fill, Level, Order, OrderBook, Side


@dataclass
class ModelOrder:
    number: int
    side: Side
    price: int
    remaining: int


@dataclass
class ModelBook:
    """Resting orders in arrival order; every command looks at all of them."""

    resting: list[ModelOrder] = field(default_factory=list)

    def submit(self, order: ModelOrder, *, is_market: bool) -> list[tuple[int, int, int]]:
        opposite = sorted(
            (other for other in self.resting if other.side is not order.side),
            key=lambda other: (other.price if order.side is Side.BUY else -other.price, other.number),
        )
        fills = []
        for other in opposite:
            crosses = other.price <= order.price if order.side is Side.BUY else other.price >= order.price
            if not order.remaining or not (is_market or crosses):
                break
            quantity = min(order.remaining, other.remaining)
            order.remaining -= quantity
            other.remaining -= quantity
            fills.append((other.number, other.price, quantity))
        if order.remaining and not is_market:
            self.resting.append(order)
        self.resting = [other for other in self.resting if other.remaining]
        return fills

    def levels(self, side: Side) -> list[tuple[int, int, list[int]]]:
        mine = [order for order in self.resting if order.side is side]
        prices = sorted({order.price for order in mine}, reverse=side is Side.BUY)
        return [
            (
                price,
                sum(order.remaining for order in mine if order.price == price),
                [order.number for order in mine if order.price == price],
            )
            for price in prices
        ]


def numbers_at(level: Level) -> list[int]:
    numbers = []
    order: Order | None = level.oldest
    while order is not None:
        numbers.append(int(order.owner))
        order = order.newer
    return numbers


def levels_of(book: OrderBook, side: Side) -> list[tuple[int, int, list[int]]]:
    levels = book.bids() if side is Side.BUY else book.asks()
    return [(level.price, level.quantity, numbers_at(level)) for level in levels]


def plain(fills: list[Fill]) -> list[tuple[int, int, int]]:
    return [(int(resting.owner), resting.price, quantity) for resting, quantity in fills]


submissions = st.tuples(st.sampled_from(Side), st.integers(95, 105), st.integers(1, 20), st.booleans())
cancellations = st.integers(0, 60)


@given(st.lists(st.one_of(submissions, submissions, cancellations), max_size=60))
def test_book_trades_as_the_model(commands: list[tuple[Side, int, int, bool] | int]) -> None:
    book, model = OrderBook(), ModelBook()
    orders: dict[int, Order] = {}
    for number, command in enumerate(commands):
        if isinstance(command, int):
            known = orders.get(command)
            was_resting = any(other.number == command for other in model.resting)
            model.resting = [other for other in model.resting if other.number != command]
            assert (known is not None and book.cancel(known)) == was_resting
        else:
            side, price, quantity, is_market = command
            order = orders[number] = Order(side, price, quantity, owner=str(number))
            expected = ModelOrder(number, side, price, quantity)
            fills = book.take(order) if is_market else book.submit(order)
            assert plain(fills) == model.submit(expected, is_market=is_market)
            assert order.remaining == expected.remaining
        for side in Side:
            assert levels_of(book, side) == model.levels(side)
        best_bid, best_ask = book.best_bid, book.best_ask
        assert (best_bid.price if best_bid else None) == next((row[0] for row in model.levels(Side.BUY)), None)
        assert (best_ask.price if best_ask else None) == next((row[0] for row in model.levels(Side.SELL)), None)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 9)), max_size=20), st.integers(1, 100))
def test_cost_to_buy_is_what_buying_costs(asks: list[tuple[int, int]], quantity: int) -> None:
    book = OrderBook()
    for price, size in asks:
        book.submit(Order(Side.SELL, price, size))
    cost = book.cost_to_buy(quantity)
    fills = book.take(Order(Side.BUY, 0, quantity))
    assert cost == sum(resting.price * traded for resting, traded in fills)


def test_earlier_order_at_a_price_trades_first() -> None:
    book = OrderBook()
    for owner in ("first", "second"):
        book.submit(Order(Side.SELL, 100, 5, owner=owner))
    fills = book.submit(Order(Side.BUY, 101, 7))
    assert [(resting.owner, resting.price, quantity) for resting, quantity in fills] == [
        ("first", 100, 5),
        ("second", 100, 2),
    ]


def test_an_order_is_cancelled_once() -> None:
    book = OrderBook()
    order = Order(Side.BUY, 100, 5)
    book.submit(order)
    assert book.cancel(order)
    assert not book.cancel(order)
    assert book.best_bid is None
