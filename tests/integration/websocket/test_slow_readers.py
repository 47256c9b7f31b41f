"""Readers that stop reading: noticed early, bounded, dropped (docs/exchange-data.md#slow-readers)."""

from __future__ import annotations

import asyncio
import socket
import time

from session_service.websocket.connection import CLOSE_LIMIT_S, MAX_UNSENT_BYTES
from session_service.websocket.emitters import Outgoing, now_ms
from session_service.wire.messages import SessionEnded
from tests.support.service import Service
from tests.support.stalls import Stalls
from tests.support.websocket_client import connect, raw_connect


async def test_slowness_is_noticed_long_before_the_kernels_default(service: Service) -> None:
    manager = service.server._websockets
    async with raw_connect(service, "/ws?deviceId=device-1&clientId=slow") as raw:
        await raw.read_frame()
        raw.stop_reading()
        raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        (connection,) = manager.registry
        message = Outgoing(SessionEnded(timestamp=now_ms(), reason="x" * 1000))
        written = 0
        while connection.unsent_bytes() == 0:
            connection.send(message)
            written += 1000
            await asyncio.sleep(0)
            assert written < 1_500_000  # the default takes 3.9 MB


async def test_a_stalled_reader_is_dropped_and_its_buffer_stays_bounded(service: Service) -> None:
    manager = service.server._websockets
    async with raw_connect(service, "/ws?deviceId=device-1&clientId=slow") as raw:
        await raw.read_frame()
        raw.stop_reading()
        (connection,) = manager.registry
        message = Outgoing(SessionEnded(timestamp=now_ms(), reason="x" * 10_000))
        most = 0
        for _ in range(2000):
            connection.send(message)
            most = max(most, connection.unsent_bytes())
        assert connection.close_code == 4008
        assert most <= MAX_UNSENT_BYTES + 11_000
        async with asyncio.timeout(20):
            while manager._connections:
                await asyncio.sleep(0.05)


async def test_shutdown_does_not_wait_for_readers_that_stall(service: Service) -> None:
    manager = service.server._websockets
    async with (
        raw_connect(service, "/ws?deviceId=device-1&clientId=slow") as raw,
        connect(service, clientId="ok") as ok,
    ):
        await raw.read_frame()
        raw.stop_reading()
        message = Outgoing(SessionEnded(timestamp=now_ms(), reason="x" * 10_000))
        slow = next(one for one in manager.registry if one.client_id == "slow")
        while slow.unsent_bytes() < MAX_UNSENT_BYTES // 2:
            slow.send(message)
        with Stalls() as stalls:
            started_s = time.monotonic()
            closing = asyncio.create_task(manager.drain("shutdown", window_s=0))
            assert await ok.close_code() == 1012
            await closing
            assert stalls.took_s(started_s) < CLOSE_LIMIT_S + 2
        async with asyncio.timeout(20):
            while manager._connections:
                await asyncio.sleep(0.05)
