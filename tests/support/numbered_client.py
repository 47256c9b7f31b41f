"""A client that keeps the sequence rule under test: every frame is checked when it comes (docs/exchange-data.md)."""

from __future__ import annotations

import json
from typing import Any

import aiohttp


class SequenceError(AssertionError):
    """A frame did not follow the one before it."""


class NumberedStream:
    """What one client has been given over all its sockets. Feed it every frame, in order.

    ``position`` is where the client stands; ``covered`` how many updates have reached it as numbers, snapshots aside;
    ``orders`` every order update that it applied, by order id, oldest first.
    """

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.sequence = 0
        self.frames = 0
        self.snapshots = 0
        self.snapshots_skipping: list[tuple[int, int]] = []
        self.covered = 0
        self.orders: dict[str, list[dict[str, Any]]] = {}
        self.symbols: set[str] = set()

    @property
    def position(self) -> dict[str, int]:
        """Query parameters that resume here; none before the first frame."""
        return {} if self.epoch is None else {"epoch": self.epoch, "sequence": self.sequence}

    def frame(self, frame: dict[str, Any]) -> None:
        """Check and apply one ``exchange_data``. Raises SequenceError."""
        first, last, epoch = frame["fromSequence"], frame["sequence"], frame["epoch"]
        if frame["snapshot"]:
            if first != last:
                raise SequenceError(f"a snapshot of {first}…{last}")
            if epoch == self.epoch and last != self.sequence:
                self.snapshots_skipping.append((self.sequence, last))
            self.snapshots += 1
        else:
            if epoch != self.epoch or first != self.sequence + 1 or last < first:
                raise SequenceError(f"{epoch}:{first}…{last} after {self.epoch}:{self.sequence}")
            self.covered += last - first + 1
        self.epoch, self.sequence = epoch, last
        self.frames += 1
        self.symbols |= {quote["symbol"] for quote in frame["data"]["marketData"]}
        for update in frame["data"]["orderUpdates"]:
            self.orders.setdefault(update["orderId"], []).append(update)

    def message(self, message: aiohttp.WSMessage) -> dict[str, Any] | None:
        """Take a WebSocket message; its frame, or None where it is not text."""
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        frame: dict[str, Any] = json.loads(message.data)
        if frame["type"] == "exchange_data":
            self.frame(frame)
        return frame
