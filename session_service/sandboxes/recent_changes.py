"""The last events of a pod's streams, once for all of them: each stream only knows how far it has read. Pure."""

from __future__ import annotations

from collections import deque

MAX_BYTES = 4 * 1024 * 1024  # what a slow stream may be behind; it is closed beyond


class RecentChanges:
    """Pieces of an event stream in order. They are numbered for ever, and the oldest go as new ones come.

    The newest piece stays, whatever its size.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self.head = 0  # the number of the next piece

    def append(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._bytes += len(piece)
        self.head += 1
        while self._bytes > self._max_bytes and len(self._pieces) > 1:
            self._bytes -= len(self._pieces.popleft())

    def at(self, number: int) -> bytes | None:
        """The piece of that number, below ``head``; None: it has gone."""
        index = number - (self.head - len(self._pieces))
        return self._pieces[index] if index >= 0 else None
