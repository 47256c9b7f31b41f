"""Exchange data: what one update is, how updates follow each other, and how several become one.

A simulator numbers its updates 1, 2, 3, … within an epoch. A ``MarketUpdate`` covers ``from_sequence`` … ``sequence``
of one epoch; the next one begins at ``sequence + 1``, or it is a snapshot, which replaces everything before it.
Everything here is pure and knows neither clock nor socket. docs/exchange-data.md tells clients the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from session_service.domain.simulator import OPEN_ORDER_STATUSES

MAX_SEQUENCE = 2**53 - 1  # the largest integer that every JSON client reads exactly
QUOTE_BYTES = 160  # about what one of these takes as JSON, and in memory
ORDER_UPDATE_BYTES = 192
HOLDING_BYTES = 112
MAX_ORDERS = 10_000  # that a state remembers; the reference simulator itself remembers 2,000


class Quote(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The top of one symbol's book. Sizes are shares. The field names are those clients read."""

    symbol: str
    bid: float
    ask: float
    bid_size: int
    ask_size: int
    last_price: float
    last_size: int


class OrderUpdate(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """One change of one order. ``sequence`` is that of the update which carried it first."""

    order_id: str
    symbol: str
    status: str
    filled_quantity: int
    average_price: float
    sequence: int
    reason: str | None = None


class Holding(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One position of a portfolio."""

    symbol: str
    quantity: int
    average_cost: float
    market_value: float


class Portfolio(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    positions: tuple[Holding, ...]
    cash_balance: float
    total_value: float


class MarketUpdate(msgspec.Struct, frozen=True, gc=False):
    """The updates ``from_sequence`` … ``sequence`` of ``epoch``, merged into one.

    A snapshot has ``from_sequence == sequence``: every quote, the portfolio, the last state of every order as of that
    number. ``sequence`` 0 marks an update of a simulator that does not number (``Numbering`` gives it one).
    """

    epoch: int
    from_sequence: int
    sequence: int
    snapshot: bool
    timestamp_ms: int
    quotes: tuple[Quote, ...]
    order_updates: tuple[OrderUpdate, ...]
    portfolio: Portfolio | None


class Position(msgspec.Struct, frozen=True):
    """How far a client has come: the last sequence that it applied, and its epoch."""

    epoch: int
    sequence: int


class SequenceError(ValueError):
    """An update neither continues the one before it nor is a snapshot."""

    def __init__(self, expected: Position, update: MarketUpdate) -> None:
        super().__init__(
            f"update {update.from_sequence}…{update.sequence} of epoch {update.epoch} does not follow "
            f"{expected.sequence} of epoch {expected.epoch}"
        )


def merge(first: MarketUpdate, second: MarketUpdate) -> MarketUpdate:
    """One update that does to a client what ``first`` and then ``second`` would do.

    Quotes: the latest per symbol, symbols in the order of their first appearance. Order updates: all, in order.
    Portfolio: the latest that is there. A snapshot as ``second`` replaces ``first``; one as ``first`` stays a
    snapshot, now as of ``second``, with the last state per order. Raises ``SequenceError`` where ``second`` does not
    follow.
    """
    if second.snapshot:
        return second
    if first.snapshot:
        state = MarketState(first)
        state.apply(second)
        return state.snapshot()
    if second.epoch != first.epoch or second.from_sequence != first.sequence + 1:
        raise SequenceError(Position(first.epoch, first.sequence), second)
    quotes = {quote.symbol: quote for quote in first.quotes}
    quotes.update((quote.symbol, quote) for quote in second.quotes)
    return MarketUpdate(
        first.epoch,
        first.from_sequence,
        second.sequence,
        False,
        second.timestamp_ms,
        tuple(quotes.values()),
        first.order_updates + second.order_updates,
        first.portfolio if second.portfolio is None else second.portfolio,
    )


def select_symbols(update: MarketUpdate, symbols: frozenset[str] | None) -> MarketUpdate:
    """The update with the quotes of ``symbols`` only (None: all). Orders and portfolio always pass."""
    if symbols is None:
        return update
    quotes = tuple([quote for quote in update.quotes if quote.symbol in symbols])
    if len(quotes) == len(update.quotes):
        return update
    return msgspec.structs.replace(update, quotes=quotes)


def is_empty(update: MarketUpdate) -> bool:
    """Nothing in it but its range."""
    return not (update.quotes or update.order_updates or update.portfolio or update.snapshot)


class MarketState:
    """What a client that applied every update knows: the source of snapshots.

    Complete from the start, since it begins with a snapshot. Past ``MAX_ORDERS`` orders a tenth of them is forgotten,
    those first that finished among the longest known; open ones never are.
    """

    __slots__ = ("_orders", "_portfolio", "_quotes", "_timestamp_ms", "epoch", "sequence")

    def __init__(self, snapshot: MarketUpdate) -> None:
        self._replace(snapshot)

    def _replace(self, snapshot: MarketUpdate) -> None:
        self.epoch = snapshot.epoch
        self.sequence = snapshot.sequence
        self._timestamp_ms = snapshot.timestamp_ms
        self._quotes = {quote.symbol: quote for quote in snapshot.quotes}
        self._orders = {order.order_id: order for order in snapshot.order_updates}
        self._portfolio = snapshot.portfolio

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.sequence)

    def knows(self, symbol: str) -> bool:
        return symbol in self._quotes

    def apply(self, update: MarketUpdate) -> None:
        """Take one update in. Raises ``SequenceError``, unchanged, where it neither follows nor is a snapshot."""
        if update.snapshot:
            self._replace(update)
            return
        if update.from_sequence != self.sequence + 1 or update.epoch != self.epoch:
            raise SequenceError(self.position, update)
        self.sequence = update.sequence
        self._timestamp_ms = update.timestamp_ms
        quotes = self._quotes
        for quote in update.quotes:
            quotes[quote.symbol] = quote
        if update.order_updates:
            self._orders.update([(order.order_id, order) for order in update.order_updates])
            if len(self._orders) > MAX_ORDERS:
                self._forget_finished()
        if update.portfolio is not None:
            self._portfolio = update.portfolio

    def _forget_finished(self) -> None:
        excess = len(self._orders) - MAX_ORDERS * 9 // 10
        finished = [order.order_id for order in self._orders.values() if order.status not in OPEN_ORDER_STATUSES]
        for order_id in finished[:excess]:
            del self._orders[order_id]

    def snapshot(self) -> MarketUpdate:
        return MarketUpdate(
            self.epoch,
            self.sequence,
            self.sequence,
            True,
            self._timestamp_ms,
            tuple(self._quotes.values()),
            tuple(self._orders.values()),
            self._portfolio,
        )


class PendingMerge:
    """What one slow reader has not been sent yet, merged as it comes (``merge``, without its repeated copying).

    Two bounds: ``max_order_updates`` order updates, which are all kept, and ``max_bytes`` of estimated size. Both
    count what was added since the last snapshot, whose own size is not the reader's fault.
    """

    __slots__ = (
        "_added_bytes",
        "_added_orders",
        "_epoch",
        "_from_sequence",
        "_max_bytes",
        "_max_order_updates",
        "_orders",
        "_portfolio",
        "_quotes",
        "_sequence",
        "_state",
        "_timestamp_ms",
    )

    def __init__(self, first: MarketUpdate, *, max_order_updates: int, max_bytes: int) -> None:
        self._max_order_updates = max_order_updates
        self._max_bytes = max_bytes
        self._begin(first)

    def _begin(self, first: MarketUpdate) -> None:
        self._state = MarketState(first) if first.snapshot else None
        self._epoch = first.epoch
        self._from_sequence = first.from_sequence
        self._sequence = first.sequence
        self._timestamp_ms = first.timestamp_ms
        self._quotes = {quote.symbol: quote for quote in first.quotes}
        self._orders = list(first.order_updates)
        self._portfolio = first.portfolio
        self._added_orders = 0 if first.snapshot else len(first.order_updates)
        self._added_bytes = 0 if first.snapshot else self._size_bytes()

    def _size_bytes(self) -> int:
        holdings = 0 if self._portfolio is None else len(self._portfolio.positions)
        return QUOTE_BYTES * len(self._quotes) + ORDER_UPDATE_BYTES * len(self._orders) + HOLDING_BYTES * holdings

    def add(self, update: MarketUpdate) -> None:
        """Merge ``update`` in; a snapshot replaces all. Raises ``SequenceError`` where it does not follow."""
        if update.snapshot:
            self._begin(update)
            return
        self._added_orders += len(update.order_updates)
        if self._state is not None:
            self._state.apply(update)
            self._added_bytes += ORDER_UPDATE_BYTES * len(update.order_updates)
            return
        if update.from_sequence != self._sequence + 1 or update.epoch != self._epoch:
            raise SequenceError(Position(self._epoch, self._sequence), update)
        self._sequence = update.sequence
        self._timestamp_ms = update.timestamp_ms
        self._quotes.update((quote.symbol, quote) for quote in update.quotes)
        self._orders.extend(update.order_updates)
        if update.portfolio is not None:
            self._portfolio = update.portfolio
        self._added_bytes = self._size_bytes()

    @property
    def over_bounds(self) -> bool:
        return self._added_orders > self._max_order_updates or self._added_bytes > self._max_bytes

    def merged(self) -> MarketUpdate:
        if self._state is not None:
            return self._state.snapshot()
        return MarketUpdate(
            self._epoch,
            self._from_sequence,
            self._sequence,
            False,
            self._timestamp_ms,
            tuple(self._quotes.values()),
            tuple(self._orders),
            self._portfolio,
        )


class Numbering:
    """Numbers for a simulator that sends none (sequence 0), for the life of one stream.

    The first update of the stream becomes a snapshot of all that is known, under an epoch of its own; nobody ever
    resumes into it (docs/exchange-data.md#simulators-that-do-not-number).
    """

    __slots__ = ("_epoch", "_sequence")

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._sequence = 0

    def number(self, update: MarketUpdate, known: MarketState | None) -> MarketUpdate:
        """The update as number 1, 2, 3, … of this stream; number 1 holds ``known`` with the update applied."""
        self._sequence += 1
        orders = self._numbered(update.order_updates)
        if self._sequence > 1:
            return msgspec.structs.replace(
                update,
                epoch=self._epoch,
                from_sequence=self._sequence,
                sequence=self._sequence,
                snapshot=False,
                order_updates=orders,
            )
        quotes: dict[str, Quote] = {}
        states: dict[str, OrderUpdate] = {}
        portfolio = update.portfolio
        if known is not None:
            before = known.snapshot()
            quotes = {quote.symbol: quote for quote in before.quotes}
            states = {order.order_id: order for order in self._numbered(before.order_updates)}
            portfolio = portfolio or before.portfolio
        quotes.update((quote.symbol, quote) for quote in update.quotes)
        states.update((order.order_id, order) for order in orders)
        return MarketUpdate(
            self._epoch,
            1,
            1,
            True,
            update.timestamp_ms,
            tuple(quotes.values()),
            tuple(states.values()),
            portfolio,
        )

    def _numbered(self, orders: Iterable[OrderUpdate]) -> tuple[OrderUpdate, ...]:
        return tuple([msgspec.structs.replace(order, sequence=self._sequence) for order in orders])
