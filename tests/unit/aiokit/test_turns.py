"""Turns: in order for one key, side by side for several, and nothing kept of those that are over."""

from __future__ import annotations

import asyncio

import pytest

from session_service.aiokit.turns import Turns


async def test_one_key_is_one_after_the_other_in_order() -> None:
    turns, order = Turns[str](), list[str]()

    async def take(name: str) -> None:
        async with turns.of("key"):
            order.append(f"{name} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")

    await asyncio.gather(*(take(name) for name in "abc"))
    assert order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    assert len(turns) == 0


async def test_no_more_than_its_width_have_a_key_at_a_time() -> None:
    turns, most, now = Turns[int](width=3), 0, 0

    async def take() -> None:
        nonlocal most, now
        async with turns.of(1):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(take() for _ in range(20)))
    assert most == 3
    assert len(turns) == 0


async def test_other_keys_do_not_wait() -> None:
    turns = Turns[int]()
    async with turns.of(1), turns.of(2), asyncio.timeout(1):
        assert len(turns) == 2


async def test_who_is_cancelled_while_waiting_leaves_the_queue() -> None:
    turns = Turns[int]()
    async with turns.of(1):
        waiting = asyncio.create_task(turns.of(1).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert len(turns) == 0


async def test_an_error_within_gives_the_turn_on() -> None:
    turns = Turns[int]()
    with pytest.raises(ValueError, match="within"):
        async with turns.of(1):
            raise ValueError("within")
    async with turns.of(1), asyncio.timeout(1):
        pass
    assert len(turns) == 0
