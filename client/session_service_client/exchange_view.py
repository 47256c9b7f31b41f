"""What a client knows of its simulator, over all its sockets. Pure."""

from __future__ import annotations

from dataclasses import replace

from session_service_client.events import ExchangeData, OrderUpdate, Portfolio, Position, Quote

SYMBOLS_SHOWN = 10  # a simulator may have hundreds
MAX_DONE_ORDERS = 1_000  # beyond so many the one that was done first leaves the view; open ones all stay
_OPEN = frozenset({"NEW", "PARTIALLY_FILLED"})


class ExchangeView:
    """The position, and the latest of everything up to it.

    ``orders`` holds the last update of each order that the simulator remembered at the last snapshot or that came
    since; of those that are neither ``NEW`` nor ``PARTIALLY_FILLED`` the latest 1,000, as at the exchange.
    """

    __slots__ = ("_done", "orders", "portfolio", "position", "quotes")

    def __init__(self) -> None:
        self.position: Position | None = None
        self.quotes: dict[str, Quote] = {}
        self.orders: dict[str, OrderUpdate] = {}
        self.portfolio: Portfolio | None = None
        self._done: dict[str, None] = {}  # ids in the order in which they were done

    def __repr__(self) -> str:
        symbols = ", ".join(sorted(self.quotes)[:SYMBOLS_SHOWN]) + (", …" if len(self.quotes) > SYMBOLS_SHOWN else "")
        return (
            f"ExchangeView({self.position}, {len(self.quotes)} quotes ({symbols}), {len(self.orders)} orders, "
            f"{self.portfolio})"
        )

    def apply(self, data: ExchangeData) -> ExchangeData | None:
        """Take a frame that kept its own socket's rule; what of it was new, or None.

        Only over two sockets can something be known already: the new one begins where the old one was when it was
        opened, and the old one went on meanwhile. Then an order update counts if its number is above the position.
        """
        position = self.position
        if position is not None and position.epoch == data.epoch:
            if data.sequence < position.sequence:
                return None
            if not data.snapshot and data.from_sequence <= position.sequence:
                if data.sequence == position.sequence:
                    return None
                data = replace(
                    data,
                    from_sequence=position.sequence + 1,
                    order_updates=tuple(one for one in data.order_updates if one.sequence > position.sequence),
                )
        if data.snapshot:
            self.quotes = {}
            self.orders = {}
            self.portfolio = None
            self._done = {}
        for quote in data.quotes:
            self.quotes[quote.symbol] = quote
        for update in data.order_updates:
            self._take(update)
        if data.portfolio is not None:
            self.portfolio = data.portfolio
        self.position = data.position
        return data

    def _take(self, update: OrderUpdate) -> None:
        order_id = update.order_id
        self.orders[order_id] = update
        self._done.pop(order_id, None)
        if update.status in _OPEN:
            return
        self._done[order_id] = None
        if len(self._done) > MAX_DONE_ORDERS:
            oldest = next(iter(self._done))
            del self._done[oldest], self.orders[oldest]
