"""What one stream sends, with a writer that the test holds back."""

import asyncio
from collections.abc import Awaitable, Callable

from exchange_api.exchange_pb2 import ExchangeDataUpdate, StreamRequest
from exchange_simulator.engine import Engine
from exchange_simulator.service import send_updates
from exchange_simulator.session import Session
from exchange_simulator.window import MAX_UPDATES

ALL_SYMBOLS: frozenset[str] = frozenset()


def new_session() -> Session:
    engine = Engine(epoch=5, seed=1, symbols=("AAPL",), cash_cents=1_000_000)
    return Session("s", "sim", engine, now_ms=0, now_s=0.0)


def collector(received: list[ExchangeDataUpdate], permits: asyncio.Semaphore) -> Callable[[bytes], Awaitable[None]]:
    async def write(encoded: bytes) -> None:
        await permits.acquire()
        received.append(ExchangeDataUpdate.FromString(encoded))

    return write


async def run_until_idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_reader_left_behind_by_the_window_gets_a_snapshot_and_goes_on_from_it() -> None:
    session = new_session()
    received: list[ExchangeDataUpdate] = []
    permits = asyncio.Semaphore(0)
    request = StreamRequest(epoch=5, from_sequence=1)
    sending = asyncio.create_task(send_updates(session, request, ALL_SYMBOLS, collector(received, permits)))
    await run_until_idle()  # now held back while it writes update 1
    for _ in range(MAX_UPDATES + 50):
        session.tick(0)
    head = session.window.head
    for _ in range(3):
        permits.release()
    await run_until_idle()
    session.tick(0)
    await run_until_idle()
    assert [(update.from_sequence, update.sequence, update.snapshot) for update in received] == [
        (1, 1, False),
        (head, head, True),
        (head + 1, head + 1, False),
    ]
    sending.cancel()
    await asyncio.wait([sending])


async def test_a_reader_behind_but_within_the_window_misses_nothing() -> None:
    session = new_session()
    received: list[ExchangeDataUpdate] = []
    permits = asyncio.Semaphore(0)
    request = StreamRequest(epoch=5, from_sequence=1)
    sending = asyncio.create_task(send_updates(session, request, ALL_SYMBOLS, collector(received, permits)))
    for _ in range(500):
        session.tick(0)
    session.end()
    for _ in range(501):
        permits.release()
    await sending
    assert [update.sequence for update in received] == list(range(1, 502))


async def test_streams_that_begin_at_one_head_share_its_snapshot() -> None:
    session = new_session()
    first = session.snapshot(0)
    assert session.snapshot(50) is first
    session.tick(100)
    assert session.snapshot(100) is not first
