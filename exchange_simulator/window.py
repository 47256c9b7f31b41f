"""The recent updates of one epoch, from which streams read and resume. Pure."""

from collections import deque

from exchange_simulator.engine import Update

MAX_UPDATES = 2_048
MAX_AGE_MS = 120_000


class UpdateWindow:
    """The last MAX_UPDATES updates, none older than MAX_AGE_MS when a newer one comes. Entries are never merged.

    The newest update always stays, however old it is. Numbers are implied by position: plain bytes and integers
    cost the garbage collector nothing, and a process holds a thousand windows.
    """

    def __init__(self, epoch: int, max_updates: int = MAX_UPDATES, max_age_ms: int = MAX_AGE_MS) -> None:
        self.epoch = epoch
        self.head = 0
        """Number of the newest update; 0 before the first."""
        self._max_updates = max_updates
        self._max_age_ms = max_age_ms
        self._encoded: deque[bytes] = deque()
        self._timestamps_ms: deque[int] = deque()

    def append(self, update: Update) -> None:
        """Adds the update that follows the head; ValueError when it is another one."""
        if update.sequence != self.head + 1:
            raise ValueError(f"update {update.sequence} does not follow {self.head}")
        self.head = update.sequence
        encoded, timestamps_ms = self._encoded, self._timestamps_ms
        encoded.append(update.encoded)
        timestamps_ms.append(update.timestamp_ms)
        oldest_ms = update.timestamp_ms - self._max_age_ms
        while len(encoded) > self._max_updates or timestamps_ms[0] < oldest_ms:
            encoded.popleft()
            timestamps_ms.popleft()

    @property
    def first(self) -> int:
        """Number of the oldest update still here; head + 1 while there is none."""
        return self.head - len(self._encoded) + 1

    def can_resume(self, epoch: int, from_sequence: int) -> bool:
        """Whether everything from `from_sequence` on can still be sent, or is yet to come (head + 1)."""
        return epoch == self.epoch and from_sequence > 0 and self.first <= from_sequence <= self.head + 1

    def get(self, sequence: int) -> bytes | None:
        """The encoded update of that number; None when it has left the window or is yet to come."""
        if not self.first <= sequence <= self.head:
            return None
        return self._encoded[sequence - self.head - 1]
