"""How many connections a pod takes at once: what is over is told to come back, before it costs anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from session_service.errors import OverloadedError


class AdmissionLimits(msgspec.Struct, frozen=True):
    """``setups``: connections that are being set up, each of which waits for database and simulator.
    ``unauthenticated``: upgraded sockets whose first message has not brought a token yet.
    """

    connections: int = 50_000
    setups: int = 2_000
    unauthenticated: int = 4_096


class AdmissionControl:
    """Counts connections, and refuses what is over a limit with OverloadedError (503 and Retry-After)."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._connections = 0
        self._setups = 0
        self.unauthenticated = 0

    def check(self) -> None:
        """May one more connection, whose set-up is counted already, go on?"""
        if self._connections >= self._limits.connections:
            raise OverloadedError(retry_after_s=5)
        if self._setups > self._limits.setups:
            raise OverloadedError(retry_after_s=1)

    def check_unauthenticated(self) -> None:
        """May one more socket be upgraded before it has shown a token?"""
        self.check()
        if self.unauthenticated >= self._limits.unauthenticated:
            raise OverloadedError(retry_after_s=5)

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
