"""A limit order book of one instrument: price-time priority, integer prices (ticks), integer quantities.

Pure: no clock, no I/O. Prices are in ticks (the smallest price step), quantities in shares. Adding to an
existing level, cancelling and matching at the best level are O(1); making or emptying a level costs a binary
search and a memory move among the side's prices.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from enum import IntEnum

MARKET_BUY_LIMIT = 2**62
MARKET_SELL_LIMIT = -(2**62)


class Side(IntEnum):
    """Which side of the market an order is on; the numbers are those of SubmitOrderRequest.Side."""

    BUY = 0
    SELL = 1


class Order:
    """An order in, or on its way into, a book.

    `remaining` counts down to 0 as it is filled. `owner` is opaque to the book: by it the caller knows
    its own orders among the fills. The links are the book's; an order stands in at most one book.
    """

    __slots__ = ("is_buy", "level", "newer", "older", "owner", "price", "remaining")

    def __init__(self, side: Side, price: int, quantity: int, owner: str = "") -> None:
        self.is_buy = side is Side.BUY
        self.price = price
        self.remaining = quantity
        self.owner = owner
        self.level: Level | None = None
        self.older: Order | None = None
        self.newer: Order | None = None


class Level:
    """The orders of one side at one price, oldest first, as a linked list (cancel is O(1))."""

    __slots__ = ("newest", "oldest", "price", "quantity")

    def __init__(self, price: int, order: Order) -> None:
        self.price = price
        self.quantity = order.remaining
        self.oldest: Order = order
        self.newest: Order = order


Fill = tuple[Order, int]
"""(resting order, quantity): the trade was at the resting order's price."""

NO_FILLS: list[Fill] = []


class OrderBook:
    """Bids and asks of one instrument.

    Each side is a dict price → Level beside a list of its prices sorted so that the best is last: orders come
    and go near the best price, so inserts move little memory and taking a level off is a pop. The best level of
    each side is kept at hand, because every order looks at it.
    """

    __slots__ = ("_ask_keys", "_asks", "_bid_keys", "_bids", "best_ask", "best_bid")

    def __init__(self) -> None:
        self._bids: dict[int, Level] = {}
        self._asks: dict[int, Level] = {}
        self._bid_keys: list[int] = []  # prices, ascending: the best bid is last
        self._ask_keys: list[int] = []  # negated prices, ascending: the best ask is last
        self.best_bid: Level | None = None
        self.best_ask: Level | None = None

    def submit(self, order: Order) -> list[Fill]:
        """Matches a limit order; what is left of it rests in the book. Returns its fills, best price first.

        The list must not be modified by the caller (it is shared when empty).
        """
        if order.is_buy:
            best = self.best_ask
            fills = self._take_asks(order, order.price) if best and best.price <= order.price else NO_FILLS
        else:
            best = self.best_bid
            fills = self._take_bids(order, order.price) if best and best.price >= order.price else NO_FILLS
        if order.remaining:
            self._rest(order)
        return fills

    def take(self, order: Order) -> list[Fill]:
        """Matches a market order at any price. What finds no counterpart stays in `order.remaining`."""
        if order.is_buy:
            return self._take_asks(order, MARKET_BUY_LIMIT)
        return self._take_bids(order, MARKET_SELL_LIMIT)

    def cancel(self, order: Order) -> bool:
        """Takes a resting order out; False when it does not rest here (filled, cancelled, never submitted)."""
        level = order.level
        if level is None:
            return False
        level.quantity -= order.remaining
        older, newer = order.older, order.newer
        order.level = order.older = order.newer = None
        if older is not None:
            older.newer = newer
            if newer is not None:
                newer.older = older
            else:
                level.newest = older
        elif newer is not None:
            newer.older = None
            level.oldest = newer
        elif order.is_buy:
            self._remove_bid_level(level.price)
        else:
            self._remove_ask_level(level.price)
        return True

    def cost_to_buy(self, quantity: int) -> int:
        """Ticks × shares that a market order for `quantity` would pay now, for as much as there is to buy."""
        cost = 0
        for level in self.asks():
            traded = min(level.quantity, quantity)
            cost += traded * level.price
            quantity -= traded
            if not quantity:
                break
        return cost

    def bids(self) -> Iterator[Level]:
        """Levels of the buy side, best first."""
        return (self._bids[key] for key in reversed(self._bid_keys))

    def asks(self) -> Iterator[Level]:
        """Levels of the sell side, best first."""
        return (self._asks[-key] for key in reversed(self._ask_keys))

    def _rest(self, order: Order) -> None:
        price = order.price
        if order.is_buy:
            level = self._bids.get(price)
            if level is None:
                level = self._bids[price] = Level(price, order)
                order.level = level
                insort(self._bid_keys, price)
                if self.best_bid is None or price > self.best_bid.price:
                    self.best_bid = level
                return
        else:
            level = self._asks.get(price)
            if level is None:
                level = self._asks[price] = Level(price, order)
                order.level = level
                insort(self._ask_keys, -price)
                if self.best_ask is None or price < self.best_ask.price:
                    self.best_ask = level
                return
        order.level = level
        order.older = level.newest
        level.newest.newer = order
        level.newest = order
        level.quantity += order.remaining

    def _take_asks(self, order: Order, limit: int) -> list[Fill]:
        fills: list[Fill] = []
        level = self.best_ask
        while level is not None and level.price <= limit:
            if consume(level, order, fills):
                return fills
            del self._asks[level.price]
            self._ask_keys.pop()
            level = self.best_ask = self._asks[-self._ask_keys[-1]] if self._ask_keys else None
            if not order.remaining:
                break
        return fills

    def _take_bids(self, order: Order, limit: int) -> list[Fill]:
        fills: list[Fill] = []
        level = self.best_bid
        while level is not None and level.price >= limit:
            if consume(level, order, fills):
                return fills
            del self._bids[level.price]
            self._bid_keys.pop()
            level = self.best_bid = self._bids[self._bid_keys[-1]] if self._bid_keys else None
            if not order.remaining:
                break
        return fills

    def _remove_bid_level(self, price: int) -> None:
        del self._bids[price]
        keys = self._bid_keys
        del keys[bisect_left(keys, price)]
        best = self.best_bid
        if best is not None and best.price == price:
            self.best_bid = self._bids[keys[-1]] if keys else None

    def _remove_ask_level(self, price: int) -> None:
        del self._asks[price]
        keys = self._ask_keys
        del keys[bisect_left(keys, -price)]
        best = self.best_ask
        if best is not None and best.price == price:
            self.best_ask = self._asks[-keys[-1]] if keys else None


def consume(level: Level, order: Order, fills: list[Fill]) -> bool:
    """Fills `order` from one level, oldest first; False when nothing is left at the level."""
    wanted = order.remaining
    resting = level.oldest
    level.quantity -= wanted
    while True:
        available = resting.remaining
        if available > wanted:
            if wanted:
                resting.remaining = available - wanted
                fills.append((resting, wanted))
            level.oldest = resting
            resting.older = None
            order.remaining = 0
            return True
        wanted -= available
        resting.remaining = 0
        fills.append((resting, available))
        newer = resting.newer
        resting.level = resting.older = resting.newer = None
        if newer is None:
            order.remaining = wanted
            return False
        resting = newer
