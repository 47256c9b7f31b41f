"""A light, steady load of REST calls, each remembered with its answer and its duration."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from types import TracebackType
from typing import NamedTuple

import aiohttp

from tests.support.service import bearer
from tests.support.stalls import Stalls


class Call(NamedTuple):
    kind: str
    started: float  # time.monotonic()
    duration_s: float  # without what the machine took
    status: int  # 0: no answer
    retry_after: str | None


class RestLoad:
    """``workers`` users who open sessions, read them, and keep them alive, one call each at a time; ``async with``.

    ``acknowledged``: (session id, user id) of every session whose creation was answered by 201. ``stalls``: what the
    machine took meanwhile.
    """

    def __init__(self, http: aiohttp.ClientSession, *, workers: int = 4, pause_s: float = 0.02) -> None:
        self.calls: list[Call] = []
        self.acknowledged: list[tuple[str, str]] = []
        self._http = http
        self._workers = workers
        self._pause_s = pause_s
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.stalls = Stalls()

    async def __aenter__(self) -> RestLoad:
        self.stalls.__enter__()
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(self._workers)]
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ending.set()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            self.stalls.__exit__(None, None, None)

    def since(self, moment: float, until: float = math.inf, *, kind: str | None = None) -> list[Call]:
        """Calls that started between the two moments of ``time.monotonic()``."""
        return [call for call in self.calls if moment <= call.started < until and kind in {None, call.kind}]

    async def recovered(self, *, calls: int = 20, within_s: float) -> float:
        """Wait until this many calls in a row succeeded; when the first of them started."""
        began = time.monotonic()
        while True:
            last = self.since(began)
            good = list(itertools.takewhile(lambda call: call.status in {200, 201}, reversed(last)))
            if len(good) >= calls:
                return good[-1].started
            if time.monotonic() - began > within_s:
                raise AssertionError(f"not recovered within {within_s:g} s: {Counter(c.status for c in last[-50:])}")
            await asyncio.sleep(0.02)

    async def _work(self, number: int) -> None:
        for turn in itertools.count():
            if self._ending.is_set():
                return
            user_id = f"load-{number}-{turn}"
            headers = bearer(user_id)
            session_id = await self._call("create", "POST", "/api/sessions", headers, {"deviceId": "d"})
            if session_id is not None:
                self.acknowledged.append((session_id, user_id))
                await self._call("get", "GET", f"/api/sessions/{session_id}", headers)
                await self._call("keepalive", "POST", f"/api/sessions/{session_id}/keepalive", headers)
            await asyncio.sleep(self._pause_s)

    async def _call(
        self, kind: str, method: str, path: str, headers: dict[str, str], json: dict[str, str] | None = None
    ) -> str | None:
        started = time.monotonic()
        status, retry_after, session_id = 0, None, None
        try:
            async with self._http.request(method, path, headers=headers, json=json) as response:
                status, retry_after = response.status, response.headers.get("Retry-After")
                body = await response.json()
                if status in {200, 201}:
                    session_id = body.get("sessionId")
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        self.calls.append(Call(kind, started, self.stalls.took_s(started), status, retry_after))
        return session_id


def percentile(calls: list[Call], part: float) -> float:
    """The duration, seconds, that this part of the calls does not exceed."""
    durations = sorted(call.duration_s for call in calls)
    return durations[min(len(durations) - 1, math.ceil(part * len(durations)) - 1)]
