"""Waiting for what must come: by asking again until it has, never by sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02
LONGEST_PAUSE_S = 0.1  # what a pause counts for, at most: more is a machine that stood still, and what is awaited too


async def eventually(check: Callable[[], Awaitable[T]], *, within_s: float, what: str, every_s: float = POLL_S) -> T:
    """Ask until the answer is true; return it. Fails, with the last answer, when ``within_s`` has passed.

    Time in which the machine let nobody run does not count. ``every_s``: more where asking costs something.
    """
    left_s = within_s
    while True:
        asked_s = time.monotonic()
        answer = await check()
        if answer:
            return answer
        answered_s = time.monotonic()
        left_s -= answered_s - asked_s
        if left_s < 0:
            raise AssertionError(f"not within {within_s:g} s: {what}; last seen: {answer!r}")
        await asyncio.sleep(every_s)
        left_s -= min(time.monotonic() - answered_s, every_s + LONGEST_PAUSE_S)
