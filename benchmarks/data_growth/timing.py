"""Times of one operation: the same few calls again and again, each over other rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def median_us(call: Callable[[T], Awaitable[object]], over: Iterable[T]) -> float:
    """What the median of these calls takes, one after another."""
    times_s = []
    for value in over:
        began_s = time.perf_counter()
        await call(value)
        times_s.append(time.perf_counter() - began_s)
    return statistics.median(times_s) * 1e6
