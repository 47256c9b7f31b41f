"""How long to wait before a process that ended is started again."""

from __future__ import annotations

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
HEALTHY_AFTER_S = 30.0


class Backoff:
    """0.1 s, doubling up to 5 s; from the start again once the process ran for 30 s."""

    def __init__(self) -> None:
        self._next_s = FIRST_DELAY_S

    def delay_s(self, ran_s: float) -> float:
        """The wait after an end, given how long the process had run."""
        if ran_s >= HEALTHY_AFTER_S:
            self._next_s = FIRST_DELAY_S
        delay_s = self._next_s
        self._next_s = min(self._next_s * 2, LONGEST_DELAY_S)
        return delay_s
