"""Named, guarded background loops: none of them ends unseen."""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import structlog

from session_service.aiokit.backoff import Backoff, jittered

log = structlog.get_logger(__name__)

_FIRST_RETRY_S = 0.1  # after the first failure of a loop whose own interval is shorter
_LONGEST_RETRY_S = 5.0  # a loop that failed comes back within this, or within its interval where that is longer


class LoopEnded(msgspec.Struct, frozen=True):
    """A loop ended although nobody closed its guard. ``error`` is None where it simply returned."""

    name: str
    error: BaseException | None


def _ignore_error(_name: str, _error: BaseException) -> None:
    pass


def _ignore_pass(_name: str, _duration_s: float) -> None:
    pass


class TaskGuard:
    """Owns the background loops of one component or process.

    ``failed`` resolves with the first loop that ended by itself; whoever runs the process waits for it, drains and
    exits non-zero. It never holds an exception, so leaving it unread makes no noise.

    ``on_error(name, error)`` is called for every pass that raised, ``on_pass(name, duration_s)`` for every pass that
    did not: the place for metrics. Neither may raise. ``expected`` errors are logged without a traceback, and
    ``logged_at_source`` only at DEBUG: where they come from there is a line already, one for all loops.

    Must be created inside a running loop. Not thread-safe.
    """

    def __init__(
        self,
        *,
        on_error: Callable[[str, BaseException], None] = _ignore_error,
        on_pass: Callable[[str, float], None] = _ignore_pass,
        expected: tuple[type[Exception], ...] = (),
        logged_at_source: tuple[type[Exception], ...] = (),
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._on_error = on_error
        self._expected = expected
        self._logged_at_source = logged_at_source
        self._on_pass = on_pass
        self._random = random
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.failed: asyncio.Future[LoopEnded] = asyncio.get_running_loop().create_future()

    def every(
        self,
        name: str,
        interval_s: float,
        body: Callable[[], Awaitable[None]],
        *,
        jitter: float = 0.1,
        longest_retry_s: float = _LONGEST_RETRY_S,
    ) -> asyncio.Task[None]:
        """Run ``body`` now and then again ``interval_s`` ± ``jitter`` after each pass, until ``close``.

        A pass that raises is logged, counted and tried again after a growing wait: from ``interval_s`` up to
        ``longest_retry_s`` (or ``interval_s`` where that is longer). Passes never overlap.
        """
        return self.spawn(name, self._repeat(name, interval_s, body, jitter, longest_retry_s))

    def spawn(self, name: str, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that is meant to last until ``close``; if it returns or raises, ``failed`` resolves.

        The task may be cancelled by the caller to end this one loop on purpose.
        """
        if self._closing:
            coro.close()
            raise RuntimeError(f"{name}: the guard is closed")
        task = asyncio.create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self, timeout_s: float = 5.0) -> tuple[str, ...]:
        """Cancel every loop and wait for them, at most ``timeout_s``. Idempotent.

        Returns the names of those that had not ended by then: they are left behind, cancelled, and logged.
        """
        self._closing = True
        pending = {task for task in self._tasks if task is not asyncio.current_task()}
        for task in pending:
            task.cancel()
        if pending:
            _done, pending = await asyncio.wait(pending, timeout=timeout_s)
        stuck = tuple(sorted(task.get_name() for task in pending))
        if stuck:
            log.error("background_loops_stuck", loops=stuck, timeout_s=timeout_s)
        if not self.failed.done():
            self.failed.cancel()
        return stuck

    async def _repeat(
        self, name: str, interval_s: float, body: Callable[[], Awaitable[None]], jitter: float, longest_retry_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        backoff = Backoff(
            first_s=max(interval_s, _FIRST_RETRY_S), max_s=max(interval_s, longest_retry_s), jitter=jitter
        )
        failures = 0
        while True:
            started = loop.time()
            try:
                await body()
            except (Exception, asyncio.CancelledError) as error:  # whatever a pass raises, the next one is due
                # A cancellation that nobody asked this task for comes from something the body waited on.
                if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                    raise
                failures += 1
                wait_s = backoff.delay_s(failures, self._random)
                # A traceback of every loop every few seconds would bury what an outage's log is read for.
                plain = isinstance(error, (*self._expected, *self._logged_at_source))
                how = {"error": type(error).__name__} if plain else {"exc_info": True}
                level = logging.DEBUG if isinstance(error, self._logged_at_source) else logging.ERROR
                log.log(
                    level, "background_pass_failed", loop=name, failures=failures, retry_in_s=round(wait_s, 3), **how
                )
                self._on_error(name, error)
            else:
                failures = 0
                self._on_pass(name, loop.time() - started)
                wait_s = jittered(interval_s, jitter, self._random)
            await asyncio.sleep(wait_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Reading the exception also tells asyncio that it was seen.
        error = None if task.cancelled() else task.exception()
        if self._closing or task.cancelled():
            if error is not None:
                log.error("background_loop_failed_at_close", loop=task.get_name(), exc_info=error)
            return
        log.critical("background_loop_ended", loop=task.get_name(), exc_info=error)
        if error is not None:
            self._on_error(task.get_name(), error)
        if not self.failed.done():
            self.failed.set_result(LoopEnded(task.get_name(), error))
