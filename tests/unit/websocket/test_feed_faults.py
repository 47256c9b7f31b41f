"""A fault of ours, at one moment, must not end a session's data for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from session_service.domain.market import MarketUpdate
from session_service.domain.simulator import SimulatorAddress
from session_service.telemetry.metrics import Metrics
from session_service.websocket.streams import StreamLimits, StreamManager
from tests.support.scripted_exchange import Reader, ScriptedExchange
from tests.support.waiting import eventually

QUICK = StreamLimits(retry_first_s=0.01, retry_max_s=0.02)


class RaisesOnce(ScriptedExchange):
    """The first stream raises what no code foresaw, after its snapshot."""

    async def stream(
        self, address: SimulatorAddress, client_id: str, epoch: int, from_sequence: int, symbols: Sequence[str] = ()
    ) -> AsyncGenerator[MarketUpdate]:
        first = not self.opened
        async for update in super().stream(address, client_id, epoch, from_sequence, symbols):
            yield update
            if first:
                raise RuntimeError("unforeseen")


async def follows(exchange: ScriptedExchange, *, failing_lookups: int = 0) -> None:
    looked_up = 0

    async def address_of(session_id: str) -> SimulatorAddress:
        nonlocal looked_up
        looked_up += 1
        if looked_up <= failing_lookups:
            raise RuntimeError("unforeseen")
        return SimulatorAddress(session_id, "simulator-1", "host:1", "token")

    streams = StreamManager(exchange, address_of, Metrics(), limits=QUICK)
    reader = Reader()
    attachment = streams.attach("session-1", "client-1", reader, None, None)
    attachment.start()

    async def is_followed() -> bool:
        exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(0)
        return any(sequence == exchange.head for _first, sequence, _snapshot in reader.ranges)

    try:
        await eventually(is_followed, within_s=20, what="the latest update")
        if isinstance(exchange, RaisesOnce):

            async def is_opened_again() -> bool:
                return len(exchange.opened) >= 2

            await eventually(is_opened_again, within_s=20, what="another stream")
            await eventually(is_followed, within_s=20, what="the latest update of the other stream")
    finally:
        attachment.detach()
        await streams.close()


async def test_a_stream_that_fails_as_nobody_foresaw_is_opened_again() -> None:
    await follows(RaisesOnce())


async def test_a_look_up_that_fails_as_nobody_foresaw_is_made_again() -> None:
    await follows(ScriptedExchange(), failing_lookups=2)
