"""Waiting for work over a real LISTEN, also when its connection is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from structlog.testing import capture_logs

from session_service import config
from session_service.database.notifications import NotificationListener
from session_service.errors import UnavailableError
from session_service.sandboxes.inbox_listener import INBOX_CHANNEL, InboxListener
from tests.support.sandboxes import Sandboxes, put
from tests.support.stalls import Stalls
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

LISTENS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"


@asynccontextmanager
async def listening(
    sandboxes: Sandboxes, *, port: int | None = None, max_waiters: int = 1000, keepalive_every_s: float = 5.0
) -> AsyncIterator[tuple[InboxListener, list[float]]]:
    """With the times at which it has connected."""
    settings = config.load(sandboxes.database.environ()).settings.database
    if port is not None:
        settings = msgspec.structs.replace(settings, port=port)
    notifications = NotificationListener(settings, INBOX_CHANNEL, keepalive_every_s=keepalive_every_s)
    connected: list[float] = []
    notifications.subscribe(lambda _payload: None, lambda: connected.append(time.monotonic()))
    listener = InboxListener(notifications, max_waiters=max_waiters)
    task = asyncio.create_task(notifications.run())
    try:
        yield listener, connected
    finally:
        task.cancel()
        await asyncio.wait([task])


async def connections(connected: list[float], number: int) -> None:
    async def look() -> bool:
        return len(connected) >= number

    await eventually(look, within_s=30, what=f"{number} connections")


class Waiting:
    """Waiters in tasks of their own; ``woken`` in the order in which they were."""

    def __init__(self, listener: InboxListener) -> None:
        self._listener = listener
        self._others = len(listener)
        self.woken: list[int] = []
        self.tasks: list[asyncio.Task[bool]] = []

    async def add(self, number: int, timeout_s: float = 60.0) -> None:
        first = len(self.tasks)
        self.tasks += [asyncio.create_task(self._wait(first + one, timeout_s)) for one in range(number)]

        async def all_wait() -> bool:
            return len(self._listener) == self._others + sum(not task.done() for task in self.tasks)

        await eventually(all_wait, within_s=20, what="all wait")

    async def _wait(self, number: int, timeout_s: float) -> bool:
        with self._listener.waiter() as waiter:
            woken = await waiter.wait(timeout_s)
            if woken:
                self.woken.append(number)
            return woken

    async def woken_are(self, number: int) -> None:
        async def look() -> bool:
            return len(self.woken) >= number

        await eventually(look, within_s=30, what=f"{number} woken")


async def test_each_piece_of_work_wakes_one_the_oldest_first(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    async with listening(sandboxes) as (listener, connected):
        await connections(connected, 1)
        waiting = Waiting(listener)
        await waiting.add(5)
        await put(shared)
        await waiting.woken_are(1)
        await shared.execute("INSERT INTO session (inbox_status) SELECT 'pending' FROM generate_series(1, 3)")
        await waiting.woken_are(4)
        assert waiting.woken == [0, 1, 2, 3]
        assert len(listener) == 1
        waiting.tasks[4].cancel()
        await asyncio.wait(waiting.tasks)


async def test_many_at_once_wake_as_many(sandboxes: Sandboxes) -> None:
    """More than a notification names: it counts the others."""
    shared = await sandboxes.shared()
    async with listening(sandboxes) as (listener, connected):
        await connections(connected, 1)
        waiting = Waiting(listener)
        await waiting.add(250)
        await shared.execute("INSERT INTO session (inbox_status) SELECT 'pending' FROM generate_series(1, 249)")
        await waiting.woken_are(249)
        assert len(listener) == 1
        listener.release_all()
        assert not await waiting.tasks[-1]


async def test_a_connection_that_is_ended_comes_back_and_wakes_all(sandboxes: Sandboxes) -> None:
    owner, shared = await sandboxes.owner(), await sandboxes.shared()
    async with listening(sandboxes) as (listener, connected):
        await connections(connected, 1)
        waiting = Waiting(listener)
        for ended in (1, 2):
            await waiting.add(3)
            (row,) = await owner.fetch(LISTENS)
            assert await owner.fetchval("SELECT pg_terminate_backend($1, 20000)", row["pid"])
            await connections(connected, ended + 1)
            await waiting.woken_are(3 * ended)
        await waiting.add(3)
        await put(shared)
        await waiting.woken_are(7)
        listener.release_all()
        assert [await task for task in waiting.tasks] == [True] * 7 + [False] * 2


async def test_what_was_notified_while_nobody_listened_is_found(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    async with (
        TcpProxy(sandboxes.database.port) as proxy,
        listening(sandboxes, port=proxy.port) as (listener, connected),
    ):
        await connections(connected, 1)
        waiting = Waiting(listener)
        await waiting.add(2)
        proxy.refuse()
        proxy.reset()
        await put(shared)
        await proxy.accept()
        assert [await task for task in waiting.tasks] == [True, True]


async def test_a_server_that_is_gone_without_a_word_is_noticed(sandboxes: Sandboxes) -> None:
    async with (
        TcpProxy(sandboxes.database.port) as proxy,
        listening(sandboxes, port=proxy.port, keepalive_every_s=0.2) as (listener, connected),
    ):
        await connections(connected, 1)
        waiting = Waiting(listener)
        await waiting.add(1)
        with capture_logs() as logs:
            proxy.go_silent()

            async def noticed() -> bool:
                return any(entry["event"] == "notifications_lost" for entry in logs)

            await eventually(noticed, within_s=30, what="the silence is noticed")
        proxy.speak()
        await connections(connected, 2)
        assert await waiting.tasks[0]


async def test_nobody_there_at_start(sandboxes: Sandboxes) -> None:
    async with TcpProxy(sandboxes.database.port) as proxy:
        proxy.refuse()
        async with listening(sandboxes, port=proxy.port) as (listener, connected):
            waiting = Waiting(listener)
            await waiting.add(1)
            with listener.waiter() as waiter:
                assert not await waiter.wait(0.05)
            assert connected == []
            await proxy.accept()
            await connections(connected, 1)
            assert await waiting.tasks[0]


async def test_the_end_of_the_time_and_of_the_pod(sandboxes: Sandboxes, stalls: Stalls) -> None:
    async with listening(sandboxes) as (listener, connected):
        await connections(connected, 1)
        with listener.waiter() as waiter:
            assert not await waiter.wait(0.05)
            began_s = time.monotonic()
            waiting = Waiting(listener)
            await waiting.add(20)
            listener.release_all()
            assert [await task for task in waiting.tasks] == [False] * 20
            assert not await waiter.wait(60.0)
            assert stalls.took_s(began_s) < 5


async def test_more_than_there_is_room_for(sandboxes: Sandboxes) -> None:
    async with listening(sandboxes, max_waiters=2) as (listener, _connected):
        with listener.waiter(), listener.waiter(), pytest.raises(UnavailableError), listener.waiter():
            pass
        with listener.waiter():
            assert len(listener) == 1


async def test_a_waiter_that_is_cancelled_takes_nobodys_work(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    async with listening(sandboxes) as (listener, connected):
        await connections(connected, 1)
        waiting = Waiting(listener)
        await waiting.add(2)
        waiting.tasks[0].cancel()
        await put(shared)
        await waiting.woken_are(1)
        assert waiting.woken == [1]
