"""Heartbeats of one socket: when the next is due, what the last ones say. Pure: times are given."""

from __future__ import annotations

MISSED_UNTIL_LOST = 3


class Heartbeats:
    """``latency_s``: the last round trip, None before the first; ``missed``: heartbeats in a row without answer."""

    __slots__ = ("_interval_s", "_sent", "latency_s", "missed", "next_s")

    def __init__(self, now_s: float, interval_s: float) -> None:
        self._interval_s = interval_s
        self._sent: dict[int, float] = {}  # timestamp of an unanswered heartbeat → when it was sent
        self.next_s = now_s + interval_s
        self.latency_s: float | None = None
        self.missed = 0

    def beat(self, now_s: float, timestamp_ms: int) -> None:
        """A heartbeat goes out; those before it that have no answer yet are missed."""
        self.missed = len(self._sent)
        while len(self._sent) > MISSED_UNTIL_LOST:
            del self._sent[next(iter(self._sent))]
        self._sent[timestamp_ms] = now_s
        self.next_s = now_s + self._interval_s

    def answered(self, now_s: float, timestamp_ms: object) -> None:
        """An answer came; it speaks for the heartbeats before it too, since a socket keeps its order."""
        if not isinstance(timestamp_ms, int) or timestamp_ms not in self._sent:
            return
        self.latency_s = now_s - self._sent[timestamp_ms]
        self.missed = 0
        for earlier in list(self._sent):
            del self._sent[earlier]
            if earlier == timestamp_ms:
                return

    def lost(self, last_heard_s: float) -> bool:
        """So many are missed, and nothing else came since the first of them: it is not worth waiting any longer."""
        return self.missed >= MISSED_UNTIL_LOST and last_heard_s < next(iter(self._sent.values()))
