"""The background market of one instrument: makers that always quote, and noise takers that trade with them.

Pure and deterministic: the same seed and the same calls give the same quotes. Prices are integer ticks. A fair
value drifts as a random walk with a slowly turning trend; makers quote LEVELS prices on either side of it, with
at least MIN_TOUCH_SIZE shares at the best one; takers hit either side at random. Users trade with the same book,
and what they trade moves the fair value a little.
"""

from random import Random

from exchange_simulator.order_book import Fill, Order, OrderBook, Side

MIN_TOUCH_SIZE = 100
LEVELS = 8
LOT = 100
MAX_LOTS_PER_QUOTE = 8
MAX_PRICE = 1_000_000_000
"""Ticks; keeps every price exact as a double and every product with an int32 quantity within 64 bits."""

MIN_FAIR = 50.0
ACTIVITY = 0.5
"""Share of the steps in which anything happens."""
VOLATILITY = 1.4e-4
"""Of the price, per active step; noise of this width is about 30 % a year at ten steps a second."""
TREND_PERSISTENCE = 0.998
TREND_SHARE = 0.004
TAKER_SHARE = 0.4
"""Share of the active steps in which a taker comes."""
MAX_TAKER_SHARES = 150
IMPACT_TICKS_PER_SHARE = 0.001
MAX_IMPACT_TICKS = 3.0
MAX_ABSORBED_PER_STEP = 500
"""Shares that makers take from users' orders priced through the fair value, per side and step."""

NO_USER_FILLS: list[Fill] = []
"""Shared; nobody changes a list of fills."""


class OneSidedMarketError(RuntimeError):
    """A side of the book is empty: a defect, since makers quote both sides after every change."""


class Market:
    """Book, makers and takers of one symbol. `last_price` is in ticks, `last_size` in shares.

    `changed` is set with every change of the quote, and reset by whoever reads it.

    Methods that trade return the fills of users' resting orders (those with an owner).
    """

    __slots__ = (
        "_asks",
        "_bids",
        "_centre",
        "_fair",
        "_random",
        "_trend",
        "book",
        "changed",
        "last_price",
        "last_size",
    )

    def __init__(self, opening_price: int, random: Random) -> None:
        self.book = OrderBook()
        self.last_price = opening_price
        self.last_size = LOT
        self._random = random.random
        self._fair = opening_price + 0.5
        self._trend = 0.0
        self._centre = opening_price
        self._bids: dict[int, Order] = {}
        self._asks: dict[int, Order] = {}
        self.changed = True
        self._requote(absorb_limit=0)

    def step(self) -> list[Fill]:
        """One step of the market's own life: the fair value moves, a taker may come, makers requote."""
        random = self._random
        if random() >= ACTIVITY:
            return NO_USER_FILLS
        noise = random() + random() - 1.0
        width = self._fair * VOLATILITY
        self._trend = self._trend * TREND_PERSISTENCE + noise * width * TREND_SHARE
        fair = self._fair + self._trend + noise * width
        if not MIN_FAIR <= fair <= MAX_PRICE / 2:
            self._trend = 0.0
            fair = min(max(fair, MIN_FAIR), MAX_PRICE / 2)
        self._fair = fair

        taken = NO_USER_FILLS
        draw = random()
        traded = draw < TAKER_SHARE
        if traded:
            side = Side.BUY if draw < TAKER_SHARE / 2 else Side.SELL
            taken = self._take(side, 1 + int(random() * MAX_TAKER_SHARES))
        # A quarter of a tick of hysteresis: makers do not flicker while the value sits on a tick's edge.
        if traded or not -0.25 <= fair - self._centre < 1.25 or self._is_crossed_by_users():
            self._centre = int(fair)
            return taken + self._requote(absorb_limit=MAX_ABSORBED_PER_STEP)
        return taken

    def trade(self, order: Order, *, is_market: bool) -> tuple[list[Fill], list[Fill]]:
        """Lets a user's order trade and rest (unless market), then makers quote anew.

        Returns the order's own fills, and the fills that makers' requoting gave to users' resting orders: makers
        take a remainder of less than MIN_TOUCH_SIZE that is priced through the fair value.
        """
        fills = self.book.take(order) if is_market else self.book.submit(order)
        if fills:
            self.last_price = fills[-1][0].price
            self.last_size = fills[-1][1]
            traded = sum(quantity for _, quantity in fills)
            impact = min(traded * IMPACT_TICKS_PER_SHARE, MAX_IMPACT_TICKS)
            self._fair = max(self._fair + (impact if order.is_buy else -impact), MIN_FAIR)
        return fills, self._requote(absorb_limit=0)

    def cancel(self, order: Order) -> list[Fill]:
        """Takes a user's order out of the book, then makers quote anew."""
        self.book.cancel(order)
        return self._requote(absorb_limit=0)

    def quote(self) -> tuple[int, int, int, int, int, int]:
        """(bid, ask, bid size, ask size, last price, last size); prices in ticks."""
        bid, ask = self.book.best_bid, self.book.best_ask
        if bid is None or ask is None:
            raise OneSidedMarketError
        return bid.price, ask.price, bid.quantity, ask.quantity, self.last_price, self.last_size

    def _take(self, side: Side, quantity: int) -> list[Fill]:
        fills = self.book.take(Order(side, 0, quantity))
        if fills:
            self.last_price = fills[-1][0].price
            self.last_size = fills[-1][1]
        return [fill for fill in fills if fill[0].owner]

    def _is_crossed_by_users(self) -> bool:
        bid, ask = self.book.best_bid, self.book.best_ask
        return (bid is not None and bid.price > self._centre) or (ask is not None and ask.price <= self._centre)

    def _requote(self, *, absorb_limit: int) -> list[Fill]:
        """Brings the makers' quotes to the centre, and both touches to their least size.

        Users' orders priced through the makers' own quotes are absorbed up to `absorb_limit` shares a side, or
        whole when less than a touch would be left; makers stand one tick off what remains.
        """
        bid, ask = self._centre - 1, self._centre + 2
        self.changed = True
        withdraw_outside(self.book, self._bids, bid - LEVELS + 1, bid)
        withdraw_outside(self.book, self._asks, ask, ask + LEVELS - 1)
        absorbed = self._absorb_asks(bid, absorb_limit) + self._absorb_bids(ask, absorb_limit)
        user_ask, user_bid = self.book.best_ask, self.book.best_bid
        if user_ask is not None and user_ask.price <= bid:
            bid = user_ask.price - 1
            self._fair = max(self._fair - 1.0, MIN_FAIR)
        if user_bid is not None and user_bid.price >= ask:
            ask = user_bid.price + 1
            self._fair = min(self._fair + 1.0, MAX_PRICE / 2)
        self._place(Side.BUY, self._bids, range(bid, max(bid - LEVELS, 0), -1))
        self._place(Side.SELL, self._asks, range(ask, ask + LEVELS))
        best_bid, best_ask = self.book.best_bid, self.book.best_ask
        if best_bid is not None and best_bid.quantity < MIN_TOUCH_SIZE:
            self._join(Side.BUY, self._bids, best_bid.price)
        if best_ask is not None and best_ask.quantity < MIN_TOUCH_SIZE:
            self._join(Side.SELL, self._asks, best_ask.price)
        return absorbed

    def _absorb_asks(self, bid: int, limit: int) -> list[Fill]:
        absorbed = NO_USER_FILLS
        while (level := self.book.best_ask) is not None and level.price <= bid:
            # Below one tick nobody can bid: an ask there is taken whole.
            quantity = level.quantity if level.price == 1 else absorbable(level.quantity, limit)
            if not quantity:
                break
            limit -= min(quantity, limit)
            absorbed = absorbed + self._take(Side.BUY, quantity)
        return absorbed

    def _absorb_bids(self, ask: int, limit: int) -> list[Fill]:
        absorbed = NO_USER_FILLS
        while (level := self.book.best_bid) is not None and level.price >= ask:
            quantity = absorbable(level.quantity, limit)
            if not quantity:
                break
            limit -= min(quantity, limit)
            absorbed = absorbed + self._take(Side.SELL, quantity)
        return absorbed

    def _place(self, side: Side, quotes: dict[int, Order], prices: range) -> None:
        for price in prices:
            quote = quotes.get(price)
            if quote is None or not quote.remaining:
                quote = quotes[price] = Order(side, price, LOT + LOT * int(self._random() * MAX_LOTS_PER_QUOTE))
                self.book.submit(quote)

    def _join(self, side: Side, quotes: dict[int, Order], price: int) -> None:
        """Makers stand at `price` with a fresh full-size quote, behind whoever is there."""
        if price in quotes:
            self.book.cancel(quotes.pop(price))
        self._place(side, quotes, range(price, price + 1))


def absorbable(available: int, limit: int) -> int:
    """Shares to take of a level: within the limit, but never leaving less than a touch."""
    return available if available - limit < MIN_TOUCH_SIZE else limit


def withdraw_outside(book: OrderBook, quotes: dict[int, Order], lowest: int, highest: int) -> None:
    """Cancels the makers' quotes outside lowest…highest."""
    for price in [price for price in quotes if not lowest <= price <= highest]:
        book.cancel(quotes.pop(price))
