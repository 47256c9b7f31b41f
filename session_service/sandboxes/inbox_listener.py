"""Waiting for work of the inbox: one LISTEN per pod, however many requests wait (docs/sandbox-sessions.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from session_service.database.notifications import NotificationListener
from session_service.sandboxes.waiting_line import Place, WaitingLine, pieces_of

INBOX_CHANNEL = "sandbox_inbox"
MAX_WAITERS = 1000
_NEXT_WAKE_S = 0.02  # while more are to be woken than may be at once


class InboxWaiter:
    """One request that looks for work and waits where there is none, again and again; made by ``InboxListener``."""

    def __init__(self, place: Place, wait: Callable[[Place, float], Awaitable[bool]]) -> None:
        self._place = place
        self._wait = wait

    async def wait(self, timeout_s: float) -> bool:
        """True as soon as work may have come since this waiter was made, or last returned from here; False after
        ``timeout_s``, or at once when the pod drains. Raises nothing; a cancellation takes nobody's work.

        True is a hint: somebody else may have taken it, and then this waits again. Retries and claims that run out
        are not notified: look after some half a minute all the same.
        """
        return await self._wait(self._place, timeout_s)


class InboxListener:
    """The waiters of this pod, and who wakes them. Belongs to one event loop.

    A notified piece of work wakes one waiter, the one that waits longest. A new connection wakes all, since nobody
    knows what was notified before; never more at a time than PostgreSQL is to be asked by.
    """

    def __init__(self, notifications: NotificationListener, *, max_waiters: int = MAX_WAITERS) -> None:
        self._loop = asyncio.get_running_loop()
        self._line = WaitingLine(max_waiters, self._loop.time())
        self._sleepers: dict[Place, asyncio.Future[None]] = {}
        self._next_wake: asyncio.TimerHandle | None = None
        self._released = False
        notifications.subscribe(self._notified, self._connected)

    def __len__(self) -> int:
        """How many waiters there are."""
        return len(self._line)

    @contextmanager
    def waiter(self) -> Iterator[InboxWaiter]:
        """A place among those who wait. Take it before looking for work, so that nothing is missed in between.

        Raises UnavailableError where ``max_waiters`` have one.
        """
        place = self._line.enter()
        try:
            yield InboxWaiter(place, self._wait)
        finally:
            self._line.leave(place)
            self._wake()

    def release_all(self) -> None:
        """The pod drains: every waiter returns False at once, and whoever waits from now on too."""
        self._released = True
        for sleeper in self._sleepers.values():
            _finish(sleeper)

    async def _wait(self, place: Place, timeout_s: float) -> bool:
        if self._released:
            return False
        self._line.wait(place)
        self._wake()
        sleeper = self._sleepers[place] = self._loop.create_future()
        try:
            if not place.woken:
                await asyncio.wait([sleeper], timeout=timeout_s)
        except asyncio.CancelledError:
            if self._line.ask(place):
                self._line.work_came(1)  # for somebody else
                self._wake()
            raise
        finally:
            del self._sleepers[place]
        return self._line.ask(place) and not self._released

    def _notified(self, payload: str) -> None:
        self._line.work_came(pieces_of(payload))
        self._wake()

    def _connected(self) -> None:
        self._line.all_may_have_missed_some()
        self._wake()

    def _wake(self) -> None:
        for place in self._line.wake(self._loop.time()):
            sleeper = self._sleepers.get(place)
            if sleeper is not None:
                _finish(sleeper)
        if self._line.owes and self._next_wake is None:
            self._next_wake = self._loop.call_later(_NEXT_WAKE_S, self._wake_more)

    def _wake_more(self) -> None:
        self._next_wake = None
        self._wake()


def _finish(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
