"""Eight connections of a session, also when more come at the same moment (docs/protocol.md)."""

from __future__ import annotations

import asyncio

from session_service.domain.session import MAX_CONNECTIONS_PER_SESSION
from tests.support.service import Service
from tests.support.waiting import eventually
from tests.support.websocket_client import connect

COUNT = 24


async def test_many_connections_at_once_leave_eight(service: Service) -> None:
    arrived, over = 0, asyncio.Event()

    async def one() -> int | None:
        nonlocal arrived
        async with connect(service) as client:
            arrived += 1
            reading = asyncio.ensure_future(client.close_code())
            await asyncio.wait([reading, asyncio.ensure_future(over.wait())], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return await reading
            reading.cancel()
            return None

    async def all_have_arrived() -> bool:
        return arrived == COUNT

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(one()) for _ in range(COUNT)]
        await eventually(all_have_arrived, within_s=30, what=f"{COUNT} times connected")

        async def eight_are_left() -> bool:
            return sum(client.done() for client in clients) >= COUNT - MAX_CONNECTIONS_PER_SESSION

        await eventually(eight_are_left, within_s=20, what="eight connections")
        over.set()
    codes = [client.result() for client in clients]
    assert codes.count(4504) == COUNT - MAX_CONNECTIONS_PER_SESSION
    assert codes.count(None) == MAX_CONNECTIONS_PER_SESSION
