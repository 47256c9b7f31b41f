"""A token bucket. Pure: the caller brings the time."""

from __future__ import annotations


class TokenBucket:
    """``rate_per_s`` on average, ``burst`` at once. A bucket starts full."""

    __slots__ = ("_burst", "_rate_per_s", "_tokens", "_updated_s")

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._updated_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one token; False when there is none. A clock that stands still or goes back gives none."""
        self._refill(now_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def change(self, rate_per_s: float, burst: float, now_s: float) -> None:
        """Other limits from now on. Tokens above the new ``burst`` are lost; a larger one fills at the new rate."""
        self._refill(now_s)
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = min(self._tokens, float(burst))

    def _refill(self, now_s: float) -> None:
        elapsed_s = now_s - self._updated_s
        if elapsed_s > 0:
            self._tokens = min(self._burst, self._tokens + elapsed_s * self._rate_per_s)
            self._updated_s = now_s
