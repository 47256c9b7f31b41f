"""What a pod does for what its own rounds could not do while PostgreSQL was away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.api_client import ApiClient
from tests.support.servers import Database
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually
from tests.support.websocket_client import connect


@pytest.fixture
async def way(database: Database) -> AsyncIterator[TcpProxy]:
    """The pod's way to PostgreSQL."""
    async with TcpProxy(database.port) as proxy:
        yield proxy


def cut(way: TcpProxy) -> None:
    way.refuse()
    way.reset()


async def test_a_socket_closed_during_an_outage_is_uncounted_after_it(
    make_service: Callable[..., Any], way: TcpProxy, sql: Sql
) -> None:
    service: Service = await make_service(DB_PORT=str(way.port), POD_LEASE_SECONDS="1")
    async with connect(service):
        assert await sql.fetchval("SELECT count(*) FROM session.sockets") == 1
        cut(way)

    async def is_closed_here() -> bool:
        return not service.server._websockets.registry.session_ids()

    await eventually(is_closed_here, within_s=20, what="the socket's end")
    assert await sql.fetchval("SELECT count(*) FROM session.sockets") == 1
    await way.accept()

    async def is_uncounted() -> bool:
        row = await sql.fetchrow(
            "SELECT a.status, (SELECT count(*) FROM session.sockets) AS sockets FROM session.active_sessions a"
        )
        return row is not None and tuple(row) == ("INACTIVE", 0)

    await eventually(is_uncounted, within_s=20, what="INACTIVE, no socket")


async def test_an_open_socket_goes_on_through_an_outage_and_its_activity_counts(
    make_service: Callable[..., Any], way: TcpProxy, sql: Sql
) -> None:
    """The session's time runs out during the outage; that it was used before counts afterwards."""
    service: Service = await make_service(DB_PORT=str(way.port), SESSION_TIMEOUT_SECONDS="3", POD_LEASE_SECONDS="1")
    async with connect(service) as client:
        session_id = client.frames[0]["sessionId"]
        cut(way)
        until = time.monotonic() + 4.5
        while time.monotonic() < until:
            await client.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"})
            ack = await client.receive_type("heartbeat_ack")
            # Never a reason to sign the user out: the fault is ours.
            assert (ack["sessionStatus"], ack["deviceIdValid"]) == ("valid", True)
            await asyncio.sleep(0.2)
        await way.accept()

        async def is_extended() -> bool:
            return bool(
                await sql.fetchval(
                    "SELECT status = 'ACTIVE' AND expires_at > now() FROM session.active_sessions"
                    " WHERE session_id = $1",
                    session_id,
                )
            )

        began = time.monotonic()
        while not await is_extended():
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.1)
            await client.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"})
            ack = await client.receive_type("heartbeat_ack")
            assert ack["sessionStatus"] == "valid"
        assert (await ApiClient(service.http).session(session_id))["status"] == "ACTIVE"


async def test_an_end_that_was_missed_is_found_by_the_round(
    make_service: Callable[..., Any], way: TcpProxy, sql: Sql
) -> None:
    service: Service = await make_service(DB_PORT=str(way.port), POD_LEASE_SECONDS="1")
    async with connect(service) as client:
        cut(way)
        await sql.execute("DELETE FROM session.active_sessions")  # as another pod would, and its event is lost
        await way.accept()
        assert await client.close_code() == 4503


async def test_a_call_whose_reply_was_lost_is_repeated_or_says_503(
    make_service: Callable[..., Any], way: TcpProxy
) -> None:
    service: Service = await make_service(DB_PORT=str(way.port))
    api = ApiClient(service.http)
    session_id = await api.open_session()
    for _ in range(20):
        call = asyncio.create_task(api.call("DELETE", f"/api/sessions/{session_id}"))
        await asyncio.sleep(0.002)
        way.reset()
        status, _body = await call
        assert status in {200, 404, 503}
        if status == 503:  # it may have happened, or not; asking again tells
            assert (await api.call("DELETE", f"/api/sessions/{session_id}"))[0] in {200, 404}
        assert (await api.call("GET", f"/api/sessions/{session_id}"))[0] == 404
        session_id = await api.open_session()
