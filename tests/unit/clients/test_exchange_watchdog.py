"""The watchdog of a stream: silence is noticed, a process that was held up is not mistaken for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from session_service.clients.exchange import HELD_UP_S, Watchdog

LIMIT_S = 0.5


@pytest.mark.looptime
async def test_silence_is_noticed_at_the_limit() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    silent = asyncio.Event()
    watchdog = Watchdog(loop, silent.set, 3.0)
    await asyncio.sleep(2.0)
    watchdog.heard_at_s = loop.time()
    await silent.wait()
    assert loop.time() - began == pytest.approx(5.0)
    assert watchdog.expired


@pytest.mark.looptime
async def test_a_stopped_one_bites_nobody() -> None:
    silent = asyncio.Event()
    Watchdog(asyncio.get_running_loop(), silent.set, 1.0).stop()
    await asyncio.sleep(10.0)
    assert not silent.is_set()


async def test_a_process_that_was_held_up_reads_what_has_come_first() -> None:
    """In real time: the loop itself is blocked past the limit, as by an overload."""
    loop = asyncio.get_running_loop()
    silent = asyncio.Event()
    watchdog = Watchdog(loop, silent.set, LIMIT_S)
    time.sleep(LIMIT_S + 2 * HELD_UP_S)
    await asyncio.sleep(0)  # the look is due, and late
    await asyncio.sleep(0)
    assert not silent.is_set()
    watchdog.heard_at_s = loop.time()  # what had arrived is read now
    await asyncio.sleep(0.05)
    assert not silent.is_set()
    await asyncio.wait_for(silent.wait(), 20)  # and then it is silent indeed
