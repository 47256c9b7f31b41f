"""How many connections a pod takes, at once and a second: what is over is told to come back, before it costs much."""

from __future__ import annotations

import random as random_module
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import msgspec
import structlog

from session_service.errors import OverloadedError
from session_service.telemetry.metrics import Metrics
from session_service.websocket.loop_lag import LoopLag
from session_service.websocket.setup_rate import LONGEST_RETRY_S, RateLimits, SetupRate

log = structlog.get_logger(__name__)

TICK_INTERVAL_S = 0.05  # a fifth of the lag that is too much: the loop's state is known well before it is bad
LOG_INTERVAL_S = 1.0  # a storm is a few lines, not one a client


class AdmissionLimits(msgspec.Struct, frozen=True):
    """``setups``: connections that are being set up, each of which waits for database and simulator. With a pool of
    ten connections and 20 ms a statement, the last of so many has its turn before the pool's limit of a second.
    ``unauthenticated``: upgraded sockets whose first message has not brought a token yet.
    """

    connections: int = 50_000
    setups: int = 500
    unauthenticated: int = 4_096
    rate: RateLimits = RateLimits()


class RefusalReason(StrEnum):
    CONNECTIONS = "connections"  # the pod has as many as it takes
    SETUPS = "setups"  # too many are being set up at this moment
    UNAUTHENTICATED = "unauthenticated"  # too many have yet to bring their token
    RATE = "rate"  # more would keep live sockets waiting


class AdmissionControl:
    """Counts connections, and refuses what is over a limit with OverloadedError (503 and Retry-After).

    ``tick`` is to be called every TICK_INTERVAL_S on the event loop: how late it comes is what the rate follows.
    ``clock``: monotonic seconds that also pass within one pass of the loop. ``random``: uniform in [0, 1).
    """

    def __init__(
        self,
        limits: AdmissionLimits,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._connections = 0
        self._setups = 0
        self.unauthenticated = 0
        now_s = clock()
        self._lag = LoopLag(TICK_INTERVAL_S)
        self._rate = SetupRate(limits.rate, random, now_s)
        self._refused: Counter[RefusalReason] = Counter()  # since the last log line
        self._logged_s = now_s - LOG_INTERVAL_S
        for reason in RefusalReason:
            metrics.admission_refused_total.labels(reason)  # a first event is seen as an increase only from a 0
        metrics.admission_rate.set(self._rate.rate_per_s)

    def admit(self) -> None:
        """May one more connection be set up, whose set-up is counted already? Once for each, its token checked."""
        self.check()
        now_s = self._clock()
        lag_s = self._lag.lag_s(now_s)
        if lag_s > self._limits.rate.lag_limit_s:  # this pass of the loop is long already: the tick waits for its end
            self._rate.observe(lag_s, now_s)
        if not self._rate.take(now_s):
            raise self._refusal(RefusalReason.RATE, self._rate.retry_after_s(now_s))

    def check(self) -> None:
        """May one more connection be there, and be set up?"""
        if self._connections >= self._limits.connections:
            raise self._refusal(RefusalReason.CONNECTIONS, self._spread_s(LONGEST_RETRY_S // 2))
        if self._setups > self._limits.setups:
            raise self._refusal(RefusalReason.SETUPS, self._rate.retry_after_s(self._clock()))

    def check_unauthenticated(self) -> None:
        """May one more socket be upgraded before it has shown a token? Its set-up comes later, and asks ``admit``."""
        self.check()
        if self.unauthenticated >= self._limits.unauthenticated:
            raise self._refusal(RefusalReason.UNAUTHENTICATED, self._spread_s(LONGEST_RETRY_S // 2))

    def tick(self) -> None:
        """Measure the loop's lag, and let the rate follow it."""
        now_s = self._clock()
        lag_s = self._lag.ticked(now_s)
        self._rate.observe(lag_s, now_s)
        self._metrics.event_loop_lag_seconds.observe(lag_s)
        self._metrics.admission_rate.set(self._rate.rate_per_s)
        if self._refused and now_s - self._logged_s >= LOG_INTERVAL_S:
            self._logged_s = now_s
            refused = {str(reason): count for reason, count in self._refused.items()}
            log.warning(
                "connections_refused",
                refused=refused,
                rate_per_s=round(self._rate.rate_per_s),
                loop_lag_ms=round(lag_s * 1000),
                connections=self._connections,
                setups=self._setups,
            )
            self._refused.clear()

    def connection_began(self) -> None:
        """Count a connection until ``connection_ended``; no context manager, which each idle one would keep."""
        self._connections += 1

    def connection_ended(self) -> None:
        self._connections -= 1

    @contextmanager
    def setup(self) -> Iterator[None]:
        """Count a set-up, while it waits for others."""
        self._setups += 1
        try:
            yield
        finally:
            self._setups -= 1

    def _refusal(self, reason: RefusalReason, retry_after_s: int) -> OverloadedError:
        self._refused[reason] += 1
        self._metrics.admission_refused_total.labels(reason).inc()
        return OverloadedError(retry_after_s=retry_after_s)

    def _spread_s(self, least_s: int) -> int:
        """From ``least_s`` to the longest wait: for a limit that gives way when others leave, at no known rate."""
        return least_s + int(self._random() * (LONGEST_RETRY_S - least_s + 1))
