"""How long to wait after the n-th failure in a row: exponential, capped, with jitter. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """``first_s`` after the first failure, ``factor`` times as long after each further one, at most ``max_s``.

    ``jitter`` is the part by which a delay may be longer or shorter (0.1: ±10 %), so that many callers that failed
    together do not come back together. The cap holds before jitter: a delay is at most ``max_s * (1 + jitter)``.
    """

    first_s: float
    max_s: float
    factor: float = 2.0
    jitter: float = 0.1

    def delay_s(self, failures: int, random: Callable[[], float]) -> float:
        """The wait after ``failures`` ≥ 1 failures in a row. ``random`` gives numbers in [0, 1)."""
        # The exponent is bounded: after a day of failures a float would overflow.
        grown_s = self.first_s * self.factor ** min(failures - 1, 64)
        return jittered(min(grown_s, self.max_s), self.jitter, random)


def jittered(interval_s: float, jitter: float, random: Callable[[], float]) -> float:
    """``interval_s`` ± ``jitter`` (a part of it, 0 to 1), evenly spread."""
    return interval_s * (1.0 + jitter * (2.0 * random() - 1.0))
