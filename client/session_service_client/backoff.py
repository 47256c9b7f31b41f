"""How long to wait before the next connection. Pure: the random numbers are given."""

from __future__ import annotations

from collections.abc import Callable


class DecorrelatedJitter:
    """Decorrelated jitter: each wait is drawn between ``base_s`` and three times the one before, at most ``cap_s``.

    The first ``short`` waits after ``reset`` are between 0 and ``first_s``: most losses are of one connection or one
    pod, and a short spread is enough to keep those who lost it together from coming back in the same instant. With
    ``short`` the number of places that can be tried, none waits for the failures of another.
    ``random`` gives numbers in [0, 1).
    """

    __slots__ = ("_base_s", "_cap_s", "_first_s", "_last_s", "_random", "_short", "_short_left")

    def __init__(
        self, random: Callable[[], float], *, first_s: float, base_s: float, cap_s: float, short: int = 1
    ) -> None:
        self._random = random
        self._first_s = first_s
        self._base_s = base_s
        self._cap_s = cap_s
        self._last_s = base_s
        self._short = self._short_left = short

    def reset(self) -> None:
        self._last_s = self._base_s
        self._short_left = self._short

    def next_s(self) -> float:
        if self._short_left:
            self._short_left -= 1
            return self._random() * min(self._first_s, self._cap_s)
        upper_s = max(self._base_s, self._last_s * 3)
        self._last_s = min(self._cap_s, self._base_s + self._random() * (upper_s - self._base_s))
        return self._last_s
