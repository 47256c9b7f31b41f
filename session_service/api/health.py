"""Probes: liveness says that the process and its event loop live, readiness whether this pod should get traffic."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
from aiohttp import web

from session_service.api.responses import json_response
from session_service.wire.rest import milliseconds

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[object]]

CHECK_LIMIT_S = 1.0
CACHE_S = 0.25

_UP, _DOWN = "UP", "DOWN"


class Liveness(msgspec.Struct, frozen=True):
    status: str
    timestamp: int  # ms
    pod: str


class Readiness(msgspec.Struct, frozen=True):
    status: str  # READY or NOT_READY
    timestamp: int  # ms
    pod: str
    checks: dict[str, str]  # UP or DOWN; of the pod itself UP, STARTING or DRAINING


class HealthState:
    """Whether this pod has started, is draining, and reaches what it depends on.

    ``required`` checks decide over readiness; ``informative`` ones (Redis) are only shown. A check passes when it
    returns, fails when it raises or takes longer than CHECK_LIMIT_S. All probes share a result for CACHE_S, and one
    round of checks runs at a time, so that probes never pile up on a frozen database.
    """

    def __init__(self, pod_name: str, *, required: Mapping[str, Check], informative: Mapping[str, Check]) -> None:
        self._pod_name = pod_name
        self._required = dict(required)
        self._checks = {**required, **informative}
        self._started = False
        self._draining = False
        self._round: asyncio.Task[dict[str, str]] | None = None
        self._checked: dict[str, str] = {}
        self._checked_at = -CACHE_S

    @property
    def draining(self) -> bool:
        return self._draining

    def started(self) -> None:
        """The pod may be given traffic from now on."""
        self._started = True

    def drain(self) -> None:
        """Answer NOT_READY from now on; final."""
        self._draining = True

    def liveness(self) -> Liveness:
        return Liveness(status=_UP, timestamp=milliseconds(time.time()), pod=self._pod_name)

    async def readiness(self) -> Readiness:
        """The pod's state, at most CACHE_S old, within CHECK_LIMIT_S. Cancelling it leaves the round running."""
        checks = {"pod": self._phase(), **await self._current_checks()}
        is_ready = all(checks[name] == _UP for name in ("pod", *self._required))
        return Readiness(
            status="READY" if is_ready else "NOT_READY",
            timestamp=milliseconds(time.time()),
            pod=self._pod_name,
            checks=checks,
        )

    def _phase(self) -> str:
        """What the pod itself has to say: why it is not ready although everything it needs is there."""
        if self._draining:
            return "DRAINING"
        return _UP if self._started else "STARTING"

    async def close(self) -> None:
        """End a round that is still under way."""
        if self._round is not None:
            self._round.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._round

    async def _current_checks(self) -> dict[str, str]:
        if asyncio.get_running_loop().time() - self._checked_at < CACHE_S:
            return self._checked
        if self._round is None:
            self._round = asyncio.create_task(self._run_checks(), name="readiness-checks")
        return await asyncio.shield(self._round)

    async def _run_checks(self) -> dict[str, str]:
        try:
            results = await asyncio.gather(*(self._run(name, check) for name, check in self._checks.items()))
            self._checked = dict(zip(self._checks, results, strict=True))
            self._checked_at = asyncio.get_running_loop().time()
            return self._checked
        finally:
            self._round = None

    async def _run(self, name: str, check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_LIMIT_S):
                await check()
        except Exception as error:  # noqa: BLE001 - whatever a dependency fails with, the answer is DOWN
            # Probes come every few seconds: the first failure tells it, the others say the same.
            level = logging.DEBUG if self._checked.get(name) == _DOWN else logging.INFO
            log.log(level, "readiness_check_failed", check=name, error=type(error).__name__)
            return _DOWN
        return _UP


class HealthHandlers:
    def __init__(self, health: HealthState) -> None:
        self._health = health

    async def handle_health(self, request: web.Request) -> web.Response:
        return json_response(self._health.liveness())

    async def handle_readiness(self, request: web.Request) -> web.Response:
        readiness = await self._health.readiness()
        return json_response(readiness, status=200 if readiness.status == "READY" else 503)
