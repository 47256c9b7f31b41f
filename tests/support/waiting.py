"""Waiting for what must come: by asking again until it has, never by sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


async def eventually(check: Callable[[], Awaitable[T]], *, within_s: float, what: str) -> T:
    """Ask until the answer is true; return it. Fails, with the last answer, when ``within_s`` has passed."""
    deadline = time.monotonic() + within_s
    while True:
        answer = await check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}; last seen: {answer!r}")
        await asyncio.sleep(POLL_S)
