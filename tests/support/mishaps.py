"""What can happen to one of the calls that a pod makes: of PostgreSQL, of its backend, of a simulator."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Set
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from session_service.errors import UnavailableError

T = TypeVar("T")


class Mishap(StrEnum):
    """At the n-th call. A crash after a call is one before the next: the reply that came told nobody."""

    CRASH = "crash"  # the pod is gone before the call is made
    LATE = "late"  # the pod is gone, and its call arrives when another has long taken over
    FROZEN = "frozen"  # the pod stands still before the call, and goes on when another has taken over
    REQUEST_LOST = "request_lost"  # not carried out, and the pod is told that nobody answered
    REPLY_LOST = "reply_lost"  # carried out, and the pod is told that nobody answered
    TWICE = "twice"  # carried out twice, as a call that is made again after a lost reply; where that is allowed

    @property
    def takes_the_pod(self) -> bool:
        """Another pod has to bring its simulators to rest."""
        return self in {Mishap.CRASH, Mishap.LATE, Mishap.FROZEN}


class OutgoingCalls:
    """Every call of one pod, counted from ``arm`` on. ``names``: those that were counted, for a failure's reader.

    ``counted``: the names of the only calls that a mishap may come to; all, when None.

    ``happened`` is set when the mishap has come. Calls that are under way at a crash are carried out; that they were,
    the pod does not learn.
    """

    def __init__(self, counted: Set[str] | None = None) -> None:
        self._counted = counted
        self.names: list[str] = []
        self.happened = asyncio.Event()
        self._mishap: Mishap | None = None
        self._at: int | str = 0
        self._alive = asyncio.Event()
        self._alive.set()
        self._under_way = 0
        self._carried_out = asyncio.Event()
        self._carried_out.set()
        self._late: Callable[[], Awaitable[object]] | None = None

    def arm(self, mishap: Mishap, at: int | str) -> None:
        """``mishap`` comes once: at the call of this number, from 1, or name among those made from now on."""
        self.names = []
        self._mishap, self._at = mishap, at

    async def carried_out(self) -> None:
        """Wait until no call is under way any more: what was asked of PostgreSQL before a crash is done after it."""
        await self._carried_out.wait()

    def thaw(self) -> None:
        """The frozen pod goes on where it stood."""
        self._alive.set()

    async def deliver_late(self) -> None:
        """The call that was under way when the pod crashed arrives. Nobody waits for its answer."""
        if self._late is not None:
            late, self._late = self._late, None
            await asyncio.gather(late(), return_exceptions=True)

    async def make(
        self,
        name: str,
        call: Callable[[], Awaitable[T]],
        *,
        unanswered: Callable[[], UnavailableError],
        repeatable: bool,
    ) -> T:
        """Make one call, unless it is the one of the mishap. Raises what the call raises, and ``unanswered``."""
        await self._alive.wait()
        counts = self._counted is None or name in self._counted
        if counts:
            self.names.append(name)
        if counts and self._mishap is not None and self._at in {len(self.names), name}:
            mishap, self._mishap = self._mishap, None
            return await self._suffer(mishap, call, unanswered, repeatable)
        self._under_way += 1
        self._carried_out.clear()
        try:
            answer = await call()
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self._carried_out.set()
        await self._alive.wait()
        return answer

    async def _suffer(
        self,
        mishap: Mishap,
        call: Callable[[], Awaitable[T]],
        unanswered: Callable[[], UnavailableError],
        repeatable: bool,
    ) -> T:
        if mishap.takes_the_pod:
            self._alive.clear()
            if mishap is Mishap.LATE:
                self._late = call
        self.happened.set()
        await self._alive.wait()
        if mishap is Mishap.REQUEST_LOST:
            raise unanswered()
        answer = await call()
        if mishap is Mishap.TWICE and repeatable:
            answer = await call()
        elif mishap in {Mishap.TWICE, Mishap.REPLY_LOST}:
            raise unanswered()
        return answer


class Watched:
    """Stands for ``real`` in a pod: every coroutine method of it is one of the pod's outgoing calls."""

    def __init__(self, real: object, calls: OutgoingCalls, unanswered: Callable[[], UnavailableError]) -> None:
        self._real = real
        self._calls = calls
        self._unanswered = unanswered

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: Any, **options: Any) -> Any:
            # Statements say what they are and whether they may be repeated; every other call may be.
            return await self._calls.make(
                options.get("operation", name),
                partial(attribute, *args, **options),
                unanswered=self._unanswered,
                repeatable=options.get("repeatable", "operation" not in options),
            )

        return call
