"""The exchange of one session: commands and ticks in, numbered and encoded updates out.

Pure: no clock, no I/O, no randomness but the seed's. The same epoch, seed, symbols, cash and calls (with the same
instants) give byte for byte the same updates. Instants are milliseconds since 1970; prices outside the engine are
in currency units, inside in ticks of 0.01, so that ticks × shares are cents.
"""

import math
from dataclasses import dataclass
from random import Random

from exchange_api.exchange_pb2 import ExchangeDataUpdate, MarketData, OrderUpdate, PortfolioStatus, Position
from exchange_simulator.market import MAX_PRICE, Market
from exchange_simulator.order_book import Fill, Order, Side
from exchange_simulator.orders import MAX_OPEN_ORDERS, OrderLog, OrderStatus, UserOrder
from exchange_simulator.portfolio import Portfolio

TICKS_PER_UNIT = 100
MAX_QUANTITY = 2**31 - 1
MAX_INT32 = 2**31 - 1
TICK_TOLERANCE = 1e-6
"""Of a tick: what arithmetic on doubles may leave of an exact price."""

OPENING_PRICES = {"AAPL": 19_000, "GOOGL": 14_000, "MSFT": 42_000, "AMZN": 18_000, "TSLA": 24_000}


@dataclass(frozen=True, slots=True)
class Update:
    """One numbered update, encoded once for every stream (an exchange.ExchangeDataUpdate)."""

    sequence: int
    timestamp_ms: int
    encoded: bytes


@dataclass(frozen=True, slots=True)
class OrderTicket:
    """An order as the user gave it, not validated. `limit_price` is None for a market order."""

    symbol: str
    side: int
    quantity: float
    limit_price: float | None


class Engine:
    """Markets, orders and portfolio of one session.

    The first update, number 1, is made by `open`; `head` is the number of the last one.
    """

    def __init__(
        self, *, epoch: int, seed: int, symbols: tuple[str, ...], cash_cents: int, allow_short: bool = False
    ) -> None:
        self.epoch = epoch
        self.symbols = symbols
        self.head = 0
        self._portfolio = Portfolio(cash_cents, allow_short=allow_short)
        self._orders = OrderLog()
        self._orders_made = 0
        self._markets: dict[str, Market] = {}
        for symbol in symbols:
            # A generator per symbol: its prices do not depend on which others are traded.
            random = Random(f"{seed}/{symbol}")
            opening_price = OPENING_PRICES.get(symbol) or random.randrange(2_000, 50_000)
            self._markets[symbol] = Market(opening_price, random)
        self._quotes: dict[str, tuple[int, int, int, int, int, int]] = {}
        self._quote_messages = {symbol: MarketData(symbol=symbol) for symbol in symbols}
        self._changed_orders: dict[str, UserOrder] = {}
        self._portfolio_changed = True

    def open(self, now_ms: int) -> Update:
        """The first update: every quote and the portfolio."""
        return self._publish(now_ms)

    def tick(self, now_ms: int) -> Update:
        """One step of every market."""
        for market in self._markets.values():
            fills = market.step()
            if fills:
                self._book_resting_fills(fills)
        return self._publish(now_ms)

    def submit_order(self, ticket: OrderTicket, now_ms: int) -> tuple[UserOrder, Update]:
        """Places an order; one that may not be placed comes back REJECTED with its reason.

        A market order takes what the book holds; what it cannot get is CANCELED. Both are told in the update.
        """
        self._orders_made += 1
        order_id = f"{self.epoch:014x}-{self._orders_made}"
        reason = self._objection(ticket)
        if reason:
            side = Side.SELL if ticket.side == Side.SELL else Side.BUY
            order = UserOrder(order_id, ticket.symbol, side, 0, None)
            order.status, order.reason = OrderStatus.REJECTED, reason
        else:
            price = None if ticket.limit_price is None else round(ticket.limit_price * TICKS_PER_UNIT)
            order = UserOrder(order_id, ticket.symbol, Side(ticket.side), int(ticket.quantity), price)
            self._trade(order)
        self._changed_orders[order_id] = order
        return order, self._publish(now_ms)

    def cancel_order(self, order_id: str, now_ms: int) -> tuple[str, Update | None]:
        """Cancels an open order. Returns why it could not be (empty when it was), and the update that tells it."""
        order = self._orders.get(order_id)
        if order is None:
            return "unknown order", None
        if not order.is_open or order.booked is None:
            return f"order is {order.status}", None
        self._release(order, order.quantity - order.filled)
        order.status = OrderStatus.CANCELED
        self._changed_orders[order_id] = order
        fills = self._markets[order.symbol].cancel(order.booked)
        order.booked = None
        self._book_resting_fills(fills)
        return "", self._publish(now_ms)

    def order(self, order_id: str) -> UserOrder | None:
        """The order's present state, or None when it is unknown or no longer remembered."""
        return self._orders.get(order_id)

    def snapshot(self, now_ms: int) -> bytes:
        """The whole state as of `head`: every quote, the portfolio, the last state of every remembered order."""
        return ExchangeDataUpdate(
            timestamp=now_ms,
            market_data=self._quote_messages.values(),
            order_updates=[encode_order(order) for order in self._orders],
            portfolio=self._encode_portfolio(),
            epoch=self.epoch,
            sequence=self.head,
            from_sequence=self.head,
            snapshot=True,
        ).SerializeToString()

    def _objection(self, ticket: OrderTicket) -> str:
        if ticket.symbol not in self._markets:
            return "unknown symbol"
        if ticket.side not in (Side.BUY, Side.SELL):
            return "unknown side"
        if not 1 <= ticket.quantity <= MAX_QUANTITY or ticket.quantity != math.floor(ticket.quantity):
            return f"quantity must be a whole number from 1 to {MAX_QUANTITY}"
        quantity = int(ticket.quantity)
        if ticket.limit_price is not None:
            scaled = ticket.limit_price * TICKS_PER_UNIT
            if not 1 - TICK_TOLERANCE <= scaled <= MAX_PRICE or abs(scaled - round(scaled)) > TICK_TOLERANCE:
                return f"price must be a multiple of 0.01 from 0.01 to {MAX_PRICE // TICKS_PER_UNIT}"
            if self._orders.open_count >= MAX_OPEN_ORDERS:
                return "too many open orders"
        if ticket.side == Side.SELL:
            return self._portfolio.objection_to_sell(ticket.symbol, quantity)
        if ticket.limit_price is None:
            cost_cents = self._markets[ticket.symbol].book.cost_to_buy(quantity)
        else:
            cost_cents = quantity * round(ticket.limit_price * TICKS_PER_UNIT)
        return self._portfolio.objection_to_buy(ticket.symbol, quantity, cost_cents)

    def _trade(self, order: UserOrder) -> None:
        is_market = order.price is None
        booked = Order(order.side, order.price or 0, order.quantity, owner=order.order_id)
        order.booked = booked
        self._orders.file(order)
        self._reserve(order)
        own, absorbed = self._markets[order.symbol].trade(booked, is_market=is_market)
        for resting, quantity in own:
            self._book_fill(order, quantity, resting.price)
        # A user's order may meet another one of the same user: both are filled.
        self._book_resting_fills([fill for fill in own if fill[0].owner])
        self._book_resting_fills(absorbed)
        if order.is_open and is_market:
            order.reason = "not enough depth"
            order.status = OrderStatus.CANCELED
            order.booked = None
        self._changed_orders[order.order_id] = order

    def _book_resting_fills(self, fills: list[Fill]) -> None:
        for resting, quantity in fills:
            self._book_fill(self._orders.open_order(resting.owner), quantity, resting.price)

    def _book_fill(self, order: UserOrder, quantity: int, price: int) -> None:
        self._release(order, quantity)
        if order.side is Side.BUY:
            self._portfolio.buy(order.symbol, quantity, price)
        else:
            self._portfolio.sell(order.symbol, quantity, price)
        order.fill(quantity, price)
        if not order.is_open:
            order.booked = None
        self._portfolio_changed = True
        self._changed_orders[order.order_id] = order

    def _reserve(self, order: UserOrder) -> None:
        # A market order trades at once, so nothing of it stays open that would need cash or shares set aside.
        if order.price is None:
            return
        if order.side is Side.BUY:
            self._portfolio.reserve_buy(order.symbol, order.quantity, order.price)
        else:
            self._portfolio.reserve_sell(order.symbol, order.quantity)

    def _release(self, order: UserOrder, quantity: int) -> None:
        if order.price is None:
            return
        if order.side is Side.BUY:
            self._portfolio.reserve_buy(order.symbol, -quantity, order.price)
        else:
            self._portfolio.reserve_sell(order.symbol, -quantity)

    def _publish(self, now_ms: int) -> Update:
        """Numbers and encodes what changed since the last update."""
        self.head = sequence = self.head + 1
        update = ExchangeDataUpdate(timestamp=now_ms, epoch=self.epoch, sequence=sequence, from_sequence=sequence)
        quotes = self._quotes
        positions = self._portfolio.positions
        for symbol, market in self._markets.items():
            if not market.changed:
                continue
            market.changed = False
            quote = market.quote()
            if quotes.get(symbol) != quote:
                quotes[symbol] = quote
                update.market_data.append(self._encode_quote(symbol, quote))
                if symbol in positions:
                    self._portfolio_changed = True
        if self._changed_orders:
            for order in self._changed_orders.values():
                order.sequence = sequence
                self._orders.file(order)
                update.order_updates.append(encode_order(order))
            self._changed_orders.clear()
        if self._portfolio_changed:
            self._portfolio_changed = False
            update.portfolio.CopyFrom(self._encode_portfolio())
        return Update(sequence, now_ms, update.SerializeToString())

    def _encode_quote(self, symbol: str, quote: tuple[int, int, int, int, int, int]) -> MarketData:
        message = self._quote_messages[symbol]
        bid, ask, bid_size, ask_size, last_price, last_size = quote
        message.bid = bid / TICKS_PER_UNIT
        message.ask = ask / TICKS_PER_UNIT
        message.bid_size = min(bid_size, MAX_INT32)
        message.ask_size = min(ask_size, MAX_INT32)
        message.last_price = last_price / TICKS_PER_UNIT
        message.last_size = min(last_size, MAX_INT32)
        return message

    def _encode_portfolio(self) -> PortfolioStatus:
        total_cents = self._portfolio.cash_cents
        positions = []
        for symbol, position in self._portfolio.positions.items():
            if not position.quantity:
                continue
            value_cents = position.quantity * self._markets[symbol].last_price
            total_cents += value_cents
            positions.append(
                Position(
                    symbol=symbol,
                    quantity=position.quantity,
                    average_cost=position.cost_cents / abs(position.quantity) / 100,
                    market_value=value_cents / 100,
                )
            )
        return PortfolioStatus(
            positions=positions, cash_balance=self._portfolio.cash_cents / 100, total_value=total_cents / 100
        )


def encode_order(order: UserOrder) -> OrderUpdate:
    """The order's present state as a message."""
    return OrderUpdate(
        order_id=order.order_id,
        symbol=order.symbol,
        status=order.status,
        filled_quantity=order.filled,
        average_price=order.average_price,
        sequence=order.sequence,
        reason=order.reason,
    )
