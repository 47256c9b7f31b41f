"""How late the event loop runs what is due: the measure of how much live sockets are kept waiting. Pure."""

from __future__ import annotations


class LoopLag:
    """``ticked`` is to be called every ``interval_s``; the lag is by how much a call is late.

    A call that is overdue says as much as one that came late: whoever asks in the middle of a long pass of the loop
    learns of it before the tick can. Until the first tick there is nothing that could be late. Clock: monotonic.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = float("inf")

    def ticked(self, now_s: float) -> float:
        """Seconds by which this tick is late; the next one is due an interval from now."""
        lag_s = self.lag_s(now_s)
        self._due_s = now_s + self._interval_s
        return lag_s

    def lag_s(self, now_s: float) -> float:
        """Seconds by which the next tick is overdue by now."""
        return max(0.0, now_s - self._due_s)
