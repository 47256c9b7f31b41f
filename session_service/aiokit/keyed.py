"""Work by key: at most one runner for a key, at most so many at once, repeated requests joined into one."""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

from session_service.aiokit.backoff import Backoff

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)


def _ignore_error(_name: str, _error: BaseException) -> None:
    pass


class KeyedQueue(Generic[K]):
    """Calls ``run(key)`` soon after ``poke(key)``; the level-triggered work queue of controllers.

    A poke carries no payload: the runner reads the present state, so the latest always wins. Pokes of a key that is
    waiting are one; pokes of a key that is running make it run once more afterwards. A runner that raises is logged,
    counted by ``on_error(name, error)`` and tried again after a growing wait; a poke meanwhile runs it at once.
    ``logged_at_source`` errors are logged only at DEBUG: where they come from there is a line already, for all keys.
    The first poked key is the first to run.

    Must be created inside a running loop. Not thread-safe; every method but ``close`` and ``join`` is synchronous.
    Memory is bounded by the number of distinct keys, which is the caller's to bound.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[K], Awaitable[None]],
        *,
        concurrency: int = 16,
        backoff: Backoff | None = None,
        on_error: Callable[[str, BaseException], None] = _ignore_error,
        logged_at_source: tuple[type[Exception], ...] = (),
        random: Callable[[], float] = random_module.random,
    ) -> None:
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        self._name = name
        self._run = run
        self._concurrency = concurrency
        self._backoff = backoff or Backoff(first_s=0.2, max_s=30.0)
        self._on_error = on_error
        self._logged_at_source = logged_at_source
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[K, None] = {}  # in the order of their pokes
        self._running: dict[K, asyncio.Task[None]] = {}
        self._again: set[K] = set()  # running, and poked since
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def poke(self, key: K) -> None:
        """Run ``key`` as soon as there is room. After ``close`` this does nothing."""
        if self._closed:
            return
        self._cancel_timer(key)
        if key in self._running:
            self._again.add(key)
        else:
            self._waiting[key] = None
            self._idle.clear()
            self._fill()

    def poke_later(self, key: K, delay_s: float) -> None:
        """Poke ``key`` in ``delay_s``. Of several such requests for a key the earliest counts.

        (A later one could otherwise push a promised run away for ever.)
        """
        if self._closed:
            return
        due = self._loop.time() + delay_s
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = self._loop.call_at(due, self.poke, key)

    def discard(self, key: K) -> None:
        """Forget what is planned for ``key``. A runner that is under way ends undisturbed, once."""
        self._cancel_timer(key)
        self._waiting.pop(key, None)
        self._again.discard(key)
        self._failures.pop(key, None)
        self._note_idle()

    def __len__(self) -> int:
        """Keys that wait for room or run; those planned for later are not counted."""
        return len(self._waiting) + len(self._running)

    async def join(self) -> None:
        """Wait until nothing waits or runs; what is planned for later is not waited for."""
        await self._idle.wait()

    async def close(self, timeout_s: float = 5.0) -> tuple[K, ...]:
        """Drop what waits, cancel what runs, and wait for it, at most ``timeout_s``. Idempotent.

        Returns the keys whose runners had not ended by then.
        """
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._again.clear()
        running = dict(self._running)
        for task in running.values():
            task.cancel()
        if running:
            await asyncio.wait(running.values(), timeout=timeout_s)
        stuck = tuple(key for key, task in running.items() if not task.done())
        if stuck:
            log.error("keyed_runners_stuck", queue=self._name, count=len(stuck), timeout_s=timeout_s)
        self._note_idle()
        return stuck

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._concurrency:
            key = next(iter(self._waiting))
            del self._waiting[key]
            task = self._loop.create_task(self._guarded(key), name=f"{self._name}:{key}")
            self._running[key] = task
            task.add_done_callback(lambda _task, key=key: self._finished(key))  # type: ignore[misc] # key is bound early

    async def _guarded(self, key: K) -> None:
        task = asyncio.current_task()
        self._again.discard(key)  # pokes from before the first step are served by this run
        try:
            await self._run(key)
        except (Exception, asyncio.CancelledError) as error:  # one key's fault must not stop the others
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            failures = self._failures.get(key, 0) + 1
            self._failures[key] = failures
            wait_s = self._backoff.delay_s(failures, self._random)
            told = isinstance(error, self._logged_at_source)
            log.log(
                logging.DEBUG if told else logging.ERROR,
                "keyed_run_failed",
                queue=self._name,
                key=str(key),
                failures=failures,
                retry_in_s=round(wait_s, 3),
                **({"error": type(error).__name__} if told else {"exc_info": True}),
            )
            self._on_error(self._name, error)
            self.poke_later(key, wait_s)
        else:
            self._failures.pop(key, None)

    def _finished(self, key: K) -> None:
        del self._running[key]
        if key in self._again:
            self._again.discard(key)
            self.poke(key)
        self._fill()
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._waiting and not self._running:
            self._idle.set()
