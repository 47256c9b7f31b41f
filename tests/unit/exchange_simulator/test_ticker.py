"""The timer wheel, in fake time."""

import asyncio
from collections import Counter

import pytest

from exchange_simulator.ticker import Ticker


@pytest.mark.looptime
async def test_each_item_is_called_once_per_interval_and_the_calls_are_spread() -> None:
    calls: list[tuple[float, str]] = []
    loop = asyncio.get_running_loop()
    ticker: Ticker[str] = Ticker(0.1, lambda item: calls.append((loop.time(), item)))
    items = [f"item {number}" for number in range(40)]
    for item in items:
        ticker.add(item)
    running = asyncio.create_task(ticker.run())
    await asyncio.sleep(1.0)
    running.cancel()
    await asyncio.wait([running])
    counts = Counter(item for _, item in calls)
    assert set(counts) == set(items)
    assert set(counts.values()) <= {9, 10, 11}
    busiest = max(Counter(round(at, 4) for at, _ in calls).values())
    assert busiest <= 4


@pytest.mark.looptime
async def test_a_removed_item_is_not_called_and_a_new_one_is() -> None:
    calls: list[str] = []
    ticker: Ticker[str] = Ticker(0.1, calls.append)
    running = asyncio.create_task(ticker.run())
    ticker.add("first")
    await asyncio.sleep(0.5)
    ticker.remove("first")
    seen = len(calls)
    assert seen >= 4
    await asyncio.sleep(5)
    assert len(calls) == seen
    ticker.add("second")
    await asyncio.sleep(0.5)
    running.cancel()
    await asyncio.wait([running])
    assert 4 <= calls[seen:].count("second") == len(calls) - seen <= 6
