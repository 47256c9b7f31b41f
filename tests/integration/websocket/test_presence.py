"""What a session shows of its sockets: statuses, counts, metrics; and that no token shows anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.service import Service, bearer, token
from tests.support.websocket_client import connect, subprotocol_token


async def session_when(service: Service, session_id: str, status: str) -> dict[str, Any]:
    """The session as REST shows it, once it has this status."""
    async with asyncio.timeout(30):
        while True:
            async with service.http.get(f"/api/sessions/{session_id}", headers=bearer()) as response:
                session: dict[str, Any] = (await response.json())["session"]
            if session["status"] == status:
                return session
            await asyncio.sleep(0.05)


async def test_a_lost_socket_leaves_reconnecting_and_a_closed_one_inactive(service: Service) -> None:
    async with connect(service, clientId="tab", attempt=1) as client:
        session_id = client.frames[0]["sessionId"]
        assert (await session_when(service, session_id, "ACTIVE"))["frontend_connections"] == 1
        client.lose()
        assert (await session_when(service, session_id, "RECONNECTING"))["frontend_connections"] == 0
    async with connect(service, clientId="tab", attempt=2) as client:
        await session_when(service, session_id, "ACTIVE")
        await client.socket.close()
    await session_when(service, session_id, "INACTIVE")


async def test_replacing_a_socket_keeps_the_session_active(service: Service) -> None:
    async with connect(service, clientId="tab", attempt=1) as old:
        session_id = old.frames[0]["sessionId"]
        async with connect(service, clientId="tab", attempt=1) as new:  # equal: the newer arrival stays
            assert await old.close_code() == 4504
            while len(service.server._websockets.registry) > 1:
                await asyncio.sleep(0.01)
            session = await session_when(service, session_id, "ACTIVE")
            assert session["frontend_connections"] == 1
            assert (await new.ask("request_session"))["status"] == "ACTIVE"


async def test_messages_are_counted_by_bounded_types(service: Service) -> None:
    async with connect(service) as client:
        await client.socket.send_str('{"type":"made_up_by_a_client"}')
        await client.receive_type("error")
        await client.ask("request_session")
        await service.server._websockets.sweep()
        body = service.server.metrics.render()[0].decode()
    assert 'session_websocket_messages_total{direction="received",type="unknown"} 1.0' in body
    assert 'session_websocket_messages_total{direction="received",type="request_session"} 1.0' in body
    assert 'session_websocket_messages_total{direction="sent",type="connected"} 1.0' in body
    assert "made_up_by_a_client" not in body


async def test_a_token_shows_in_no_log_metric_or_answer(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    canary = token("canary-user")
    seen = []
    for bad in (False, True):
        secret = canary[:-6] + "AAAAAA" if bad else canary
        async with connect(
            service, headers={}, protocols=("session.v1", subprotocol_token(secret)), connected=False
        ) as client:
            seen.append(await client.receive())
        async with connect(service, headers={}, connected=False) as client:
            await client.send({"type": "authenticate", "token": secret})
            seen.append(await client.receive())
        async with service.http.get("/ws", params={"deviceId": "d", "token": secret}) as response:
            seen.append(await response.json())
    output = "".join(capfd.readouterr()) + str(seen) + service.server.metrics.render()[0].decode()
    assert "authentication_failed" in output
    payload = canary.split(".")[1]
    assert payload not in output
    assert subprotocol_token(canary).removeprefix("bearer.")[:60] not in output
