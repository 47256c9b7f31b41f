"""Who may connect: every way a token comes in, and every way it is refused (docs/protocol.md#connecting)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from aiohttp import WSServerHandshakeError

from session_service.clients.token_signer import sign_token
from tests.support.service import SECRET_KEY, Service, bearer, token
from tests.support.websocket_client import Client, connect, subprotocol_token

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}


async def refused(service: Service, headers: dict[str, str], **query: str) -> tuple[int, dict[str, Any]]:
    """The HTTP answer to an upgrade that must fail."""
    async with service.http.get("/ws", params=query, headers={**UPGRADE, **headers}) as response:
        return response.status, await response.json()


async def refused_by_close(service: Service, bearer_token: str | None, **query: str) -> tuple[str, int | None]:
    """The `error` frame's code and the close code, for a client that offers session.v1."""
    protocols = ("session.v1",) if bearer_token is None else ("session.v1", subprotocol_token(bearer_token))
    async with connect(service, headers={}, protocols=protocols, connected=False, **query) as client:
        frame = await client.receive()
        assert frame["type"] == "error", frame
        return frame["errorCode"], await client.close_code()


async def test_the_subprotocol_brings_the_token_and_only_session_v1_is_echoed(service: Service) -> None:
    async with connect(service, headers={}, protocols=("session.v1", subprotocol_token(token()))) as client:
        assert client.socket.protocol == "session.v1"


async def test_the_subprotocol_comes_before_the_authorization_header(service: Service) -> None:
    protocols = ("session.v1", subprotocol_token(token("user-1")))
    async with connect(service, headers=bearer("user-2"), protocols=protocols) as client:
        assert (await client.ask("request_session"))["userId"] == "user-1"


async def test_the_first_message_brings_the_token(service: Service) -> None:
    async with connect(service, headers={}, connected=False) as client:
        await client.send({"type": "authenticate", "token": token("user-7")})
        # Sent before `connected` came: kept, and answered after it.
        session = await client.ask("request_session")
        assert [frame["type"] for frame in client.frames] == ["connected", "session_info"]
        assert session["userId"] == "user-7"


async def test_before_the_token_other_messages_are_refused_and_the_socket_stays(service: Service) -> None:
    async with connect(service, headers={}, connected=False) as client:
        await client.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"})
        assert (await client.receive())["errorCode"] == "AUTHENTICATION_FAILED"
        await client.socket.send_str("nonsense")
        assert (await client.receive())["errorCode"] == "INVALID_MESSAGE"
        await client.send({"type": "authenticate", "token": token()})
        assert (await client.receive())["type"] == "connected"


async def test_a_bad_first_message_token_is_closed_with_4501(service: Service) -> None:
    async with connect(service, headers={}, connected=False) as client:
        await client.send({"type": "authenticate", "token": "bad"})
        assert (await client.receive())["errorCode"] == "AUTHENTICATION_FAILED"
        assert await client.close_code() == 4501


async def test_a_query_token_is_refused_with_what_to_use_instead(service: Service) -> None:
    status, body = await refused(service, {}, deviceId="d", token=token())
    assert status == 400
    assert body["code"] == "INVALID_REQUEST"
    assert "bearer." in body["error"]
    assert "authenticate" in body["error"]


async def test_a_query_token_is_taken_where_it_is_allowed(make_service: Callable[..., Any]) -> None:
    service = await make_service(WEBSOCKET_QUERY_TOKEN="allow")
    async with connect(service, headers={}, token=token("user-3")) as client:
        assert (await client.ask("request_session"))["userId"] == "user-3"
    assert (await refused(service, {}, deviceId="d", token="bad"))[0] == 401


def bad_tokens() -> dict[str, str]:
    now = int(time.time())
    claims = {"sub": "user-1", "exp": now + 600}
    return {
        "garbage": "garbage",
        "expired": sign_token(SECRET_KEY, "HS256", "user-1", now_s=now - 1000, ttl_s=10),
        "wrong key": token(secret="another-secret-key-of-32-bytes-or-more"),
        "alg none": jwt.encode(claims, "", algorithm="none"),
        "other algorithm": jwt.encode(claims, SECRET_KEY * 2, algorithm="HS512"),
        "no exp": jwt.encode({"sub": "user-1"}, SECRET_KEY, algorithm="HS256"),
        "empty sub": jwt.encode({**claims, "sub": ""}, SECRET_KEY, algorithm="HS256"),
        "oversize": "a" * 8193,
    }


async def test_every_bad_token_is_one_401_body_or_close_4501(service: Service) -> None:
    bodies = set()
    for name, bad in bad_tokens().items():
        status, body = await refused(service, {"Authorization": f"Bearer {bad}"}, deviceId="d")
        assert status == 401, name
        bodies.add(body["error"])
        if len(bad) < 4000:  # a subprotocol is a header too, whose own limit comes first
            assert await refused_by_close(service, bad) == ("AUTHENTICATION_FAILED", 4501), name
    assert len(bodies) == 1


@pytest.mark.parametrize("value", ["Basic dXNlcjpw", "Bearer", "Bearer  ", "token"])
async def test_other_authorization_schemes_are_401(service: Service, value: str) -> None:
    assert (await refused(service, {"Authorization": value}, deviceId="d"))[0] == 401


async def test_a_subprotocol_that_is_no_base64url_is_401(service: Service) -> None:
    assert (await refused(service, {"Sec-WebSocket-Protocol": "bearer.%%%"}, deviceId="d"))[0] == 401


async def test_wrong_queries_are_400_naming_the_field_or_close_4506(service: Service) -> None:
    cases: list[tuple[str, dict[str, str]]] = [
        ("deviceId", {}),
        ("deviceId", {"deviceId": "x" * 256}),
        ("deviceId", {"deviceId": "a\u0000b"}),
        ("sessionId", {"deviceId": "d", "sessionId": "x" * 300}),
        ("clientId", {"deviceId": "d", "clientId": "x" * 65}),
        ("attempt", {"deviceId": "d", "attempt": "-1"}),
        ("attempt", {"deviceId": "d", "attempt": "1.5"}),
        ("epoch", {"deviceId": "d", "sequence": "1"}),
        ("sequence", {"deviceId": "d", "epoch": "1"}),
        ("epoch", {"deviceId": "d", "epoch": str(2**53), "sequence": "1"}),
        ("symbols", {"deviceId": "d", "symbols": ",".join(f"S{number}" for number in range(101))}),
    ]
    for field, query in cases:
        status, body = await refused(service, bearer(), **query)
        assert (status, body["code"]) == (400, "INVALID_REQUEST"), query
        assert body["error"].startswith(f"{field}:"), (query, body)
    assert await refused_by_close(service, token(), attempt="x") == ("INVALID_REQUEST", 4506)


async def test_foreign_and_missing_sessions_are_the_same_404_or_close_4503(service: Service) -> None:
    async with connect(service, "owner") as client:
        session_id = client.frames[0]["sessionId"]
        answers = [
            await refused(service, bearer("thief"), deviceId="device-1", sessionId=session_id),
            await refused(service, bearer("thief"), deviceId="device-1", sessionId="no-such-session"),
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
        assert await refused_by_close(service, token("thief"), sessionId=session_id) == ("SESSION_NOT_FOUND", 4503)


async def test_another_device_is_409_or_close_4506(service: Service) -> None:
    async with connect(service) as client:
        session_id = client.frames[0]["sessionId"]
    status, body = await refused(service, bearer(), deviceId="device-2", sessionId=session_id)
    assert (status, body["code"]) == (409, "DEVICE_MISMATCH")
    refusal = await refused_by_close(service, token(), deviceId="device-2", sessionId=session_id)
    assert refusal == ("DEVICE_MISMATCH", 4506)


async def test_a_session_is_found_by_its_id_or_by_its_device(service: Service) -> None:
    async with connect(service) as first, connect(service) as second:
        session_id = first.frames[0]["sessionId"]
        assert second.frames[0]["sessionId"] == session_id
        assert second.frames[0]["isNew"] is False
        async with connect(service, sessionId=session_id) as third:
            assert third.frames[0]["sessionId"] == session_id


async def test_a_plain_request_is_400(service: Service) -> None:
    async with service.http.get("/ws", params={"deviceId": "d"}, headers=bearer()) as response:
        assert response.status == 400
    for header, value in (("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "short")):
        assert (await refused(service, {**bearer(), header: value}, deviceId="d"))[0] == 400


async def test_over_a_limit_the_answer_is_503_with_retry_after_but_never_before_the_token(service: Service) -> None:
    service.server._websockets._admission._connections = 1_000_000
    try:
        assert (await refused(service, {"Authorization": "Bearer bad"}, deviceId="d"))[0] == 401
        with pytest.raises(WSServerHandshakeError) as caught:
            async with connect(service):
                pass
    finally:
        service.server._websockets._admission._connections = 0
    assert caught.value.status == 503
    assert caught.value.headers is not None
    assert int(caught.value.headers["Retry-After"]) >= 1


async def test_a_refresh_by_the_same_user_moves_the_end_and_by_another_ends_it(service: Service) -> None:
    async def refresh(client: Client, bearer_token: str) -> None:
        await client.send({"type": "authenticate", "token": bearer_token, "requestId": "refresh"})

    headers = bearer(ttl_s=4.0)
    async with (
        connect(service, headers=headers, clientId="a") as kept,
        connect(service, headers=headers, clientId="b") as left,
    ):
        await refresh(kept, token(ttl_s=600))
        assert (await kept.receive_type("result"))["success"] is True
        assert await left.close_code() == 4501  # at exp
        assert (await kept.ask("request_session"))["type"] == "session_info"
        await refresh(kept, token("somebody-else"))
        assert (await kept.receive_type("error"))["errorCode"] == "AUTHENTICATION_FAILED"
        assert await kept.close_code() == 4501
