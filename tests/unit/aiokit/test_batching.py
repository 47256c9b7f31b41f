"""Calls that go together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from session_service.aiokit.batching import Batcher


class Carrier:
    """Remembers the batches; each waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.gate.acquire()
        if self.error is not None:
            raise self.error
        return [10 * item for item in items]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_while_one_is_under_way_goes_together() -> None:
    carrier = Carrier()
    batcher = Batcher(carrier, limit=3, width=1)
    first = asyncio.create_task(batcher.call(1))
    await turns()
    assert carrier.batches == [[1]]
    rest = [asyncio.create_task(batcher.call(number)) for number in (2, 3, 4, 5)]
    await turns()
    assert carrier.batches == [[1]]
    carrier.gate.release()
    assert await first == 10
    await turns()
    assert carrier.batches == [[1], [2, 3, 4]]
    carrier.gate.release()
    carrier.gate.release()
    assert await asyncio.gather(*rest) == [20, 30, 40, 50]
    assert carrier.batches == [[1], [2, 3, 4], [5]]


async def test_calls_of_one_turn_are_one_batch_and_width_bounds_the_batches() -> None:
    carrier = Carrier()
    batcher = Batcher(carrier, limit=2, width=2)
    calls = [asyncio.create_task(batcher.call(number)) for number in range(6)]
    await turns()
    assert carrier.batches == [[0, 1], [2, 3]]
    for _ in range(3):
        carrier.gate.release()
    assert await asyncio.gather(*calls) == [0, 10, 20, 30, 40, 50]


async def test_an_error_is_every_callers_and_the_next_batch_goes_on() -> None:
    carrier = Carrier()
    batcher = Batcher(carrier, limit=10, width=1)
    carrier.error = ValueError("away")
    carrier.gate.release()
    answers = await asyncio.gather(batcher.call(1), batcher.call(2), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["away", "away"]
    carrier.error = None
    carrier.gate.release()
    assert await batcher.call(3) == 30


async def test_a_cancelled_caller_is_not_carried_and_harms_nobody() -> None:
    carrier = Carrier()
    batcher = Batcher(carrier, limit=10, width=1)
    first = asyncio.create_task(batcher.call(1))
    await turns()
    waiting = [asyncio.create_task(batcher.call(number)) for number in (2, 3)]
    await turns()
    waiting[0].cancel()
    first.cancel()
    await turns()
    carrier.gate.release()
    carrier.gate.release()
    assert await waiting[1] == 30
    assert carrier.batches == [[1], [3]]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_carrier_that_loses_an_answer_is_found() -> None:
    async def short(items: Sequence[int]) -> list[int]:
        return [1 for _ in items[1:]]

    batcher = Batcher(short, limit=10, width=1)
    with pytest.raises(RuntimeError, match="0 results for 1 calls"):
        await batcher.call(1)


async def test_a_call_takes_no_longer_than_it_may_however_many_wait_before_it() -> None:
    carrier = Carrier()
    batcher = Batcher(carrier, limit=2, width=1, within_s=0.05, late=ConnectionError)
    calls = [asyncio.create_task(batcher.call(number)) for number in range(100)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {ConnectionError}
    carrier.gate.release()
    await turns()
    assert carrier.batches == [[0, 1]], "nobody waits for the others any more"
