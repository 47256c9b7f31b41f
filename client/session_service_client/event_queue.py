"""Events between the reader of a socket and the user's iteration: bounded, and nothing in it is ever dropped.

While the user keeps up, every frame is an event. Once ``MERGE_BEYOND`` events wait, exchange data that follows
exchange data is merged with it: quotes and portfolio latest-wins, order updates all kept, in order, the range grown.
Once ``MAX_EVENTS`` events or ``MAX_ORDER_UPDATES`` order updates wait, the socket is read no further until the user
has taken some. A service that nobody reads from merges on its own side, and after 10 s closes with 4008; the client
comes back with its position when there is room again.
"""

from __future__ import annotations

import asyncio
from collections import deque

from session_service_client.events import Event, ExchangeData, OrderUpdate, Quote

MERGE_BEYOND = 64
MAX_EVENTS = 256
MAX_ORDER_UPDATES = 2048


class _Merge:
    """Exchange data that is still growing; made an event when it is taken."""

    __slots__ = ("_first", "_last", "_orders", "_quotes", "portfolio")

    def __init__(self, data: ExchangeData) -> None:
        self._first = self._last = data
        self._quotes: dict[str, Quote] = {quote.symbol: quote for quote in data.quotes}
        self._orders: list[OrderUpdate] = list(data.order_updates)
        self.portfolio = data.portfolio

    def follows(self, data: ExchangeData) -> bool:
        last = self._last
        return not data.snapshot and data.epoch == last.epoch and data.from_sequence == last.sequence + 1

    def add(self, data: ExchangeData) -> None:
        self._last = data
        for quote in data.quotes:
            self._quotes[quote.symbol] = quote
        self._orders.extend(data.order_updates)
        self.portfolio = data.portfolio or self.portfolio

    def event(self) -> ExchangeData:
        first, last = self._first, self._last
        if first is last:
            return first
        return ExchangeData(
            epoch=last.epoch,
            from_sequence=last.sequence if first.snapshot else first.from_sequence,
            sequence=last.sequence,
            snapshot=first.snapshot,
            timestamp_ms=last.timestamp_ms,
            quotes=tuple(self._quotes.values()),
            order_updates=tuple(self._orders),
            portfolio=self.portfolio,
        )


class EventQueue:
    """One writer, one reader. ``close`` ends the iteration once everything before it was taken."""

    def __init__(self) -> None:
        self._events: deque[Event | _Merge] = deque()
        self._order_updates = 0
        self._closed = False
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def full(self) -> bool:
        return len(self._events) >= MAX_EVENTS or self._order_updates >= MAX_ORDER_UPDATES

    def put(self, event: Event) -> None:
        """Never refuses: whoever reads the socket asks ``full`` afterwards, and waits for ``room``."""
        if self._closed:
            return
        if isinstance(event, ExchangeData):
            self._put_data(event)
        else:
            self._events.append(event)
        self._filled.set()
        if self.full:
            self._room.clear()

    def _put_data(self, data: ExchangeData) -> None:
        self._order_updates += len(data.order_updates)
        if len(self._events) < MERGE_BEYOND:
            self._events.append(data)
            return
        last = self._events[-1]
        if isinstance(last, _Merge) and last.follows(data):
            last.add(data)
        else:
            self._events.append(_Merge(data))

    async def room(self) -> None:
        await self._room.wait()

    async def get(self) -> Event | None:
        """The next event; None at the end. Cancelling it loses nothing."""
        while not self._events:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        taken = self._events.popleft()
        event = taken.event() if isinstance(taken, _Merge) else taken
        if isinstance(event, ExchangeData):
            self._order_updates -= len(event.order_updates)
        if not self.full:
            self._room.set()
        return event

    def close(self) -> None:
        self._closed = True
        self._filled.set()
        self._room.set()
