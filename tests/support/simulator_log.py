"""What scripted simulators have said, by number, read plainly: it shares no rule with the product."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from session_service.domain.market import MarketUpdate
from tests.support.scripted_exchange import EPOCH_STEP, ScriptedExchange

Json = dict[str, Any]


@dataclass
class Known:
    """All that a client knows: quotes by symbol, the last state of each order by id, the portfolio; as JSON."""

    quotes: dict[str, Json] = field(default_factory=dict)
    orders: dict[str, Json] = field(default_factory=dict)
    portfolio: Json | None = None

    def copy(self) -> Known:
        return Known(dict(self.quotes), dict(self.orders), self.portfolio)

    def apply(self, data: Json, orders: list[Json]) -> None:
        """One frame's ``data``, of whose order updates only ``orders`` are new."""
        self.quotes.update({quote["symbol"]: quote for quote in data["marketData"]})
        self.orders.update({order["orderId"]: order for order in orders})
        if data["portfolio"] is not None:
            self.portfolio = data["portfolio"]

    def under(self, symbols: frozenset[str] | None) -> Known:
        """As a client with this filter knows it."""
        passing = {symbol: quote for symbol, quote in self.quotes.items() if symbols is None or symbol in symbols}
        return Known(passing, self.orders, self.portfolio)


class SimulatorLog:
    """Every state of every simulator of one test. ``add`` each simulator before it is used."""

    def __init__(self) -> None:
        self._exchanges: list[ScriptedExchange] = []
        self._states: dict[int, list[Known]] = {}  # by epoch, of number 1 first

    def add(self, exchange: ScriptedExchange) -> None:
        self._exchanges.append(exchange)

    def locate(self, data: Json) -> tuple[int, int]:
        """The true (epoch, number) of the last update in a frame, whatever the frame calls it."""
        number = data["timestamp"] % EPOCH_STEP
        return data["timestamp"] - number, number

    def is_numbered(self, epoch: int) -> bool:
        """Whether ``epoch`` is a simulator's own, which clients are shown."""
        return any(exchange.numbered for exchange in self._exchanges if epoch in exchange.history)

    def head(self, epoch: int) -> int:
        """The last number of an epoch; 0 for one that never was."""
        return max((len(exchange.history.get(epoch, ())) for exchange in self._exchanges), default=0)

    def data(self, epoch: int, first: int, last: int, symbols: frozenset[str] | None, shift: int) -> Json:
        """The ``data`` of the frame for these numbers; ``shift``: how much lower the client's own numbers are."""
        change, orders = Known(), []
        for update in self._updates(epoch)[first - 1 : last]:
            read = as_json(update, shift)
            change.apply(read, [])
            orders.extend(read["orderUpdates"])
        return {
            "timestamp": epoch + last,
            "marketData": list(change.under(symbols).quotes.values()),
            "orderUpdates": orders,
            "portfolio": change.portfolio,
        }

    def state(self, epoch: int, number: int) -> Known:
        """What is known after updates 1 … ``number``."""
        states = self._states.setdefault(epoch, [])
        for update in self._updates(epoch)[len(states) : number]:
            known = states[-1].copy() if states else Known()
            read = as_json(update, 0)
            known.apply(read, read["orderUpdates"])
            states.append(known)
        return states[number - 1]

    def _updates(self, epoch: int) -> list[MarketUpdate]:
        return next(exchange.history[epoch] for exchange in self._exchanges if epoch in exchange.history)


def as_json(update: MarketUpdate, shift: int) -> Json:
    """An update's ``data`` as docs/protocol.md writes it."""
    portfolio = update.portfolio
    return {
        "timestamp": update.timestamp_ms,
        "marketData": [
            {
                "symbol": quote.symbol,
                "bid": quote.bid,
                "ask": quote.ask,
                "bidSize": quote.bid_size,
                "askSize": quote.ask_size,
                "lastPrice": quote.last_price,
                "lastSize": quote.last_size,
            }
            for quote in update.quotes
        ],
        "orderUpdates": [
            {
                "orderId": order.order_id,
                "symbol": order.symbol,
                "status": order.status,
                "filledQuantity": order.filled_quantity,
                "averagePrice": order.average_price,
                "sequence": order.sequence - shift,
            }
            for order in update.order_updates
        ],
        "portfolio": None
        if portfolio is None
        else {"positions": [], "cashBalance": portfolio.cash_balance, "totalValue": portfolio.total_value},
    }
