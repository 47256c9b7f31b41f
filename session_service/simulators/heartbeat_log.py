"""Heartbeats that simulators have answered, until they are recorded. The last one of a session counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class HeartbeatLog:
    """Bounded by the number of simulators. ``clock``: Unix seconds, as the record shows them to people."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._sent: dict[str, tuple[int, int]] = {}

    def sent(self, session_id: str, epoch: int) -> None:
        """A heartbeat was answered, sent as the owner under ``epoch``."""
        self._sent[session_id] = (epoch, int(self._clock()))

    def take(self) -> dict[str, tuple[int, int]]:
        """All that waits: session id → epoch and Unix seconds. It waits no more."""
        taken, self._sent = self._sent, {}
        return taken

    def put_back(self, sent: Mapping[str, tuple[int, int]]) -> None:
        """What was taken could not be recorded; newer ones stand."""
        self._sent = {**sent, **self._sent}
