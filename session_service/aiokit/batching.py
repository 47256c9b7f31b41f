"""Calls that go together: what comes while one is under way makes the next one, as in a group commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Carries single calls in batches of up to ``limit``, at most ``width`` at a time. Belongs to one event loop.

    ``carry`` takes the items of a batch and returns their results in the same order; what it raises, every caller of
    the batch raises. A call alone is not held up: it waits for the loop's next turn, in which others may join it.

    ``within_s``: how long a call takes at most, its wait for a batch included; then it raises ``late()``. So callers
    go as fast as they come where no batch comes back, however many they are.
    """

    def __init__(
        self,
        carry: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        limit: int,
        width: int,
        within_s: float | None = None,
        late: Callable[[], Exception] = TimeoutError,
    ) -> None:
        self._carry = carry
        self._limit = limit
        self._width = width
        self._within_s = within_s
        self._late = late
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._woken = False

    async def call(self, item: Item) -> Result:
        """The result for ``item``. Cancelled while it waits, it is not carried; cancelled later, it may have been."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, answer))
        if not self._woken and len(self._under_way) < self._width:
            self._woken = True
            loop.call_soon(self._start)
        try:
            async with asyncio.timeout(self._within_s) as limit:
                return await answer
        except TimeoutError:
            if limit.expired():
                raise self._late() from None
            raise

    def _start(self) -> None:
        self._woken = False
        while self._waiting and len(self._under_way) < self._width:
            batch: list[tuple[Item, asyncio.Future[Result]]] = []
            while self._waiting and len(batch) < self._limit:
                item, answer = self._waiting.popleft()
                if not answer.done():  # else its caller was cancelled
                    batch.append((item, answer))
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch), name="batch")
                self._under_way.add(task)
                task.add_done_callback(self._ended)

    async def _run(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._carry([item for item, _answer in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} calls")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            for _item, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_item, answer), result in zip(batch, results, strict=True):
            if not answer.done():
                answer.set_result(result)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._start()
