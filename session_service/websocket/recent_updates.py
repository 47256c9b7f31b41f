"""The last updates of a session's live stream, from which a socket that was away for a moment is continued."""

from __future__ import annotations

from collections import deque

from session_service.domain.market import MarketUpdate, Position


class RecentUpdates:
    """Successive updates of one epoch, bounded by what is in them: ``max_items`` quotes, orders and positions.

    A few seconds of a session with five symbols. Whoever is further behind is continued by the simulator itself.
    """

    __slots__ = ("_epoch", "_items", "_max_items", "_sequence", "_updates")

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        # Made with the first update: an empty deque takes 700 bytes, and most sessions have no simulator.
        self._updates: deque[MarketUpdate] | None = None
        self._items = 0
        self._epoch = 0
        self._sequence = 0

    def restart(self, head: Position) -> None:
        """Begin anew after ``head``."""
        self._updates = None
        self._items = 0
        self._epoch = head.epoch
        self._sequence = head.sequence

    def append(self, update: MarketUpdate) -> None:
        """Add the update that follows the head."""
        updates = self._updates
        if updates is None:
            updates = self._updates = deque()
        updates.append(update)
        self._items += _items(update)
        self._sequence = update.sequence
        while self._items > self._max_items:
            self._items -= _items(updates.popleft())

    def after(self, position: Position) -> list[MarketUpdate] | None:
        """What follows ``position`` (nothing, at the head); None where that is not all here."""
        if position.epoch != self._epoch or position.sequence > self._sequence:
            return None
        if position.sequence == self._sequence:
            return []
        wanted: list[MarketUpdate] = []
        for update in reversed(self._updates or ()):
            if update.from_sequence <= position.sequence:
                return None  # the position is inside this one
            wanted.append(update)
            if update.from_sequence == position.sequence + 1:
                return wanted[::-1]
        return None


def _items(update: MarketUpdate) -> int:
    holdings = 0 if update.portfolio is None else len(update.portfolio.positions)
    return 1 + len(update.quotes) + len(update.order_updates) + holdings
