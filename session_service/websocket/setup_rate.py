"""How many connections a second may be set up: as many as leave the event loop in time for live sockets. Pure.

Additive increase, multiplicative decrease, as TCP finds its share of a link (RFC 5681 §3.1): what a pod can take
depends on the machine, on the sockets it has already and on PostgreSQL, and is found by trying.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from session_service.wire.rate_limit import TokenBucket

LONGEST_RETRY_S = 10  # what a client is asked to wait at most: after that, another pod may be the better place


class RateLimits(msgspec.Struct, frozen=True):
    """Between which rates it is tried, and how. What stands here was chosen for a pod that has a core."""

    # Refusing everybody would not help a loop that lags for another reason: at about a millisecond each, these cost a
    # twentieth of a core.
    floor_per_s: float = 50.0
    # What a bare upgrade takes of a core: at the ceiling the rate holds nobody up whom the pod could serve.
    ceiling_per_s: float = 5_000.0
    increase_per_s2: float = 500.0  # from floor to ceiling in ten seconds
    decrease_factor: float = 0.5
    # What was admitted before a decrease goes on for about as long, and is no effect of the new rate.
    decrease_every_s: float = 0.25
    # A quarter of the pause that a live socket may see at most while pods come and go (1 s, docs/performance.md).
    lag_limit_s: float = 0.25
    # Retry-After counts whole seconds: those who were refused together come back together, a second's worth at once.
    burst_s: float = 1.0
    # Admitted at once even where the loop lags, so that a lone client does not pay for a storm that is not there.
    smallest_burst: float = 32.0


class SetupRate:
    """The rate of new connections, fed with the event loop's lag. It begins at its ceiling.

    ``random``: uniform in [0, 1). All instants are of one monotonic clock.
    """

    def __init__(self, limits: RateLimits, random: Callable[[], float], now_s: float) -> None:
        self._limits = limits
        self._random = random
        self._observed_s = self._refused_s = now_s
        self._decreased_s = float("-inf")
        self._waiting = 0.0  # how many who were refused cannot have been admitted yet
        self.rate_per_s = limits.ceiling_per_s
        self._bucket = TokenBucket(self.rate_per_s, self._burst(), now_s)

    def observe(self, lag_s: float, now_s: float) -> None:
        """Adapt the rate to a lag that was measured now."""
        limits = self._limits
        elapsed_s = max(0.0, now_s - self._observed_s)
        self._observed_s = max(now_s, self._observed_s)
        if lag_s <= limits.lag_limit_s:
            increased = self.rate_per_s + elapsed_s * limits.increase_per_s2
            self.rate_per_s = min(limits.ceiling_per_s, increased)
            self._bucket.change(self.rate_per_s, self._burst(), now_s)
        elif now_s - self._decreased_s >= limits.decrease_every_s:
            self._decreased_s = now_s
            self.rate_per_s = max(limits.floor_per_s, self.rate_per_s * limits.decrease_factor)
            # What was saved up is lost: it was saved at a rate that turned out to be too high.
            self._bucket.change(self.rate_per_s, limits.smallest_burst, now_s)

    def take(self, now_s: float) -> bool:
        """May one more connection be set up now?"""
        return self._bucket.take(now_s)

    def retry_after_s(self, now_s: float) -> int:
        """When one that is refused now shall come again: whole seconds from 1 to LONGEST_RETRY_S.

        The refused form a queue that is worked off at this rate, which grows meanwhile; each is told its own place in
        it. Where the queue is longer than the longest wait, they are spread over all of that.
        """
        elapsed_s = max(0.0, now_s - self._refused_s)
        self._refused_s = max(now_s, self._refused_s)
        self._waiting = max(0.0, self._waiting - elapsed_s * self.rate_per_s) + 1.0
        growth = self._limits.increase_per_s2
        # How long until rate * t + growth * t**2 / 2 have been admitted.
        wait_s = (math.sqrt(self.rate_per_s**2 + 2.0 * growth * self._waiting) - self.rate_per_s) / growth
        if wait_s > LONGEST_RETRY_S:
            wait_s = self._random() * LONGEST_RETRY_S
        else:
            wait_s += self._random() - 0.5  # a place between two seconds goes to either of them
        return min(LONGEST_RETRY_S, max(1, math.ceil(wait_s)))

    def _burst(self) -> float:
        return max(self._limits.smallest_burst, self.rate_per_s * self._limits.burst_s)
