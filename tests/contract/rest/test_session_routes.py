"""/api/sessions on a real pod: every row of the contract, statuses and bodies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.support.servers import Database
from tests.support.service import Service, bearer

MakeService = Callable[..., Awaitable[Service]]
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3,6})?Z")
SESSION_NOT_FOUND = {
    "success": False,
    "code": "SESSION_NOT_FOUND",
    "error": "Session not found",
    "errorMessage": "Session not found",
}


async def call(service: Service, method: str, path: str, user: str = "user-1", **options: Any) -> tuple[int, Any]:
    headers = options.pop("headers", bearer(user))
    async with service.http.request(method, path, headers=headers, **options) as response:
        return response.status, await response.json()


async def create(service: Service, device_id: str = "device-1", user: str = "user-1") -> str:
    _status, body = await call(service, "POST", "/api/sessions", user, json={"deviceId": device_id})
    session_id: str = body["sessionId"]
    return session_id


async def test_creating_a_session(service: Service) -> None:
    status, body = await call(service, "POST", "/api/sessions", json={"deviceId": "device-1"})
    assert status == 201
    assert body.keys() == {"success", "sessionId", "isNew", "status", "expiresAt", "podName"}
    assert (body["success"], body["isNew"], body["status"], body["podName"]) == (
        True,
        True,
        "ACTIVE",
        "pod-under-test",
    )
    assert INSTANT.fullmatch(body["expiresAt"])
    again_status, again = await call(service, "POST", "/api/sessions", json={"deviceId": "device-1"})
    assert again_status == 200
    assert (again["sessionId"], again["isNew"]) == (body["sessionId"], False)


async def test_devices_and_users_have_sessions_of_their_own(service: Service) -> None:
    made = {await create(service), await create(service, "device-2"), await create(service, user="user-2")}
    assert len(made) == 3


async def test_concurrent_calls_make_one_session(service: Service) -> None:
    answers = await asyncio.gather(
        *(call(service, "POST", "/api/sessions", json={"deviceId": "device-1"}) for _ in range(100))
    )
    assert {body["sessionId"] for _status, body in answers} == {answers[0][1]["sessionId"]}
    assert sorted(status for status, _body in answers) == [200] * 99 + [201]


async def test_the_oldest_session_without_a_socket_makes_room(make_service: MakeService) -> None:
    service = await make_service(MAX_SESSIONS_PER_USER="2")
    first, second = await create(service, "d1"), await create(service, "d2")
    third = await create(service, "d3")
    _status, body = await call(service, "GET", "/api/sessions")
    assert [one["session_id"] for one in body["sessions"]] == [second, third]
    assert await call(service, "GET", f"/api/sessions/{first}") == (404, SESSION_NOT_FOUND)


async def test_at_the_limit_with_every_session_connected(make_service: MakeService) -> None:
    service = await make_service(MAX_SESSIONS_PER_USER="1")
    session_id = await create(service, "d1")
    path = f"/ws?deviceId=d1&sessionId={session_id}"
    async with service.http.ws_connect(path, headers=bearer()) as socket:
        assert (await socket.receive_json())["type"] == "connected"
        status, body = await call(service, "POST", "/api/sessions", json={"deviceId": "d2"})
    assert (status, body["code"]) == (409, "SESSION_LIMIT_REACHED")


async def test_the_session_object(service: Service, database: Database) -> None:
    session_id = await create(service)
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute(
        "UPDATE session.session_metadata SET metadata = metadata || $2::jsonb WHERE session_id = $1",
        session_id,
        '{"status": "FORGED", "token": "secret", "anything": {"deep": [1, null]}, '
        '"simulator_id": "sim", "simulator_endpoint": "host:1"}',
    )
    await connection.close()
    status, body = await call(service, "GET", f"/api/sessions/{session_id}")
    assert status == 200
    assert body.keys() == {"success", "session"}
    session = body["session"]
    assert (session["session_id"], session["user_id"], session["status"]) == (session_id, "user-1", "ACTIVE")
    for name in ("created_at", "last_active", "expires_at"):
        assert INSTANT.fullmatch(session[name]), name
    assert session["anything"] == {"deep": [1, None]}
    assert (session["device_id"], session["pod_name"]) == ("device-1", "pod-under-test")
    assert not {"token", "simulator_token", "simulator_endpoint", "metadata"} & session.keys()

    _status, listed = await call(service, "GET", "/api/sessions")
    assert [one.keys() for one in listed["sessions"]] == [session.keys()]

    trusted = bearer("another-service", scope="other simulators")
    _status, shown = await call(service, "GET", f"/api/sessions/{session_id}", headers=trusted)
    assert shown["session"]["simulator_endpoint"] == "host:1"
    assert len(shown["session"]["simulator_token"]) > 20
    assert "token" not in shown["session"]


async def test_listing_shows_the_callers_only(service: Service) -> None:
    mine, _theirs = await create(service), await create(service, user="user-2")
    _status, body = await call(service, "GET", "/api/sessions")
    assert [one["session_id"] for one in body["sessions"]] == [mine]
    assert await call(service, "GET", "/api/sessions", "nobody") == (200, {"success": True, "sessions": []})


async def test_ready_keepalive_and_reconnect(service: Service) -> None:
    path = f"/api/sessions/{await create(service)}"
    assert await call(service, "GET", f"{path}/ready") == (200, {"success": True, "status": "ready"})
    status, kept = await call(service, "POST", f"{path}/keepalive")
    assert (status, kept.keys()) == (200, {"success", "expiresAt"})
    assert INSTANT.fullmatch(kept["expiresAt"])
    attempt = {"deviceId": "device-1", "attempt": 2}
    status, back = await call(service, "POST", f"{path}/reconnect", json=attempt)
    assert (status, back.keys()) == (200, {"success", "session"})
    assert back["session"]["reconnect_count"] == 1
    status, refused = await call(service, "POST", f"{path}/reconnect", json={**attempt, "deviceId": "other"})
    assert (status, refused["code"]) == (409, "DEVICE_MISMATCH")


async def test_keepalive_extends(service: Service, database: Database) -> None:
    session_id = await create(service)
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("UPDATE session.active_sessions SET expires_at = now() + interval '60 seconds'")
    _status, kept = await call(service, "POST", f"/api/sessions/{session_id}/keepalive")
    remaining_s = await connection.fetchval(
        "SELECT extract(epoch FROM expires_at - now())::float FROM session.active_sessions"
    )
    await connection.close()
    assert 3500 < remaining_s <= 3600
    assert kept["success"]


async def test_nothing_revives_an_expired_session(service: Service, database: Database) -> None:
    session_id = await create(service)
    path = f"/api/sessions/{session_id}"
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute(
        "UPDATE session.active_sessions SET expires_at = now() - interval '1 second', status = 'EXPIRED'"
    )
    attempt = {"deviceId": "device-1", "attempt": 1}
    for method, route, body in (
        ("POST", f"{path}/keepalive", None),
        ("GET", path, None),
        ("POST", f"{path}/reconnect", attempt),
    ):
        status, answer = await call(service, method, route, json=body)
        assert (status, answer["code"]) == (410, "SESSION_EXPIRED"), route
    assert (await call(service, "GET", f"{path}/ready"))[0] == 409
    await connection.execute("DELETE FROM session.active_sessions")
    await connection.close()
    assert await call(service, "POST", f"{path}/keepalive") == (404, SESSION_NOT_FOUND)
    status, again = await call(service, "POST", "/api/sessions", json={"deviceId": "device-1"})
    assert (status, again["isNew"]) == (201, True)
    assert again["sessionId"] != session_id


async def test_ending_one(service: Service) -> None:
    path = f"/api/sessions/{await create(service)}"
    assert await call(service, "DELETE", path) == (200, {"success": True, "simulatorStopped": False})
    assert await call(service, "DELETE", path) == (404, SESSION_NOT_FOUND)


async def test_ending_by_device_or_all(service: Service) -> None:
    first, second, third, fourth = [await create(service, f"d{number}") for number in range(1, 5)]
    theirs = await create(service, "d1", "user-2")

    async def end(query: str = "", **options: Any) -> list[str]:
        status, body = await call(service, "DELETE", f"/api/sessions{query}", **options)
        assert status == 200
        assert body["success"] is True
        assert body["ended"] == len(body["sessionIds"])
        return sorted(body["sessionIds"])

    assert await end("?deviceId=d1") == [first]
    assert await end(json={"deviceId": "d2"}) == [second]
    assert await end("?deviceId=d1") == []
    assert await end("?deviceId=") == []
    assert await end(f"?deviceId={'x' * 300}") == []
    assert await end(json={"deviceId": "no\x00device"}) == []
    assert await end() == sorted([third, fourth])
    assert await end() == []
    assert (await call(service, "GET", f"/api/sessions/{theirs}", "user-2"))[0] == 200


@pytest.mark.parametrize(
    ("path", "raw", "field"),
    [
        ("/api/sessions", b"", None),
        ("/api/sessions", b"[]", None),
        ("/api/sessions", b"{", None),
        ("/api/sessions", b"[" * 60_000, None),
        ("/api/sessions", b'{"x":' * 10_000 + b"1" + b"}" * 10_000, None),
        ("/api/sessions", b"{}", "deviceId"),
        ("/api/sessions", b'{"deviceId": 5}', "deviceId"),
        ("/api/sessions", b'{"deviceId": ""}', "deviceId"),
        ("/api/sessions", b'{"deviceId": "a\\u0000"}', "deviceId"),
        ("/api/sessions", b'{"deviceId": "\\ud800"}', None),
        ("/api/sessions/any/reconnect", b'{"deviceId": "d"}', "attempt"),
        ("/api/sessions/any/reconnect", b'{"deviceId": "d", "attempt": "1"}', "attempt"),
    ],
)
async def test_invalid_bodies(service: Service, path: str, raw: bytes, field: str | None) -> None:
    status, body = await call(service, "POST", path, data=raw)
    assert (status, body["code"]) == (400, "INVALID_REQUEST")
    assert body["success"] is False
    assert body["error"] == body["errorMessage"]
    if field is not None:
        assert body["error"].startswith(f"{field}: ")


async def chunks(size_bytes: int) -> Any:
    for _ in range(size_bytes // 1024):
        yield b" " * 1024
    yield b'{"deviceId": "d"}'


async def test_bodies_have_a_limit(service: Service) -> None:
    limit = 64 * 1024
    inside = b'{"deviceId": "d"}'.ljust(limit)
    assert (await call(service, "POST", "/api/sessions", data=inside))[0] == 201
    for too_large in (inside + b" ", chunks(limit)):
        status, body = await call(service, "POST", "/api/sessions", data=too_large)
        assert (status, body["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
async def test_the_content_type_decides_nothing(service: Service, content_type: str) -> None:
    headers = {**bearer(), "Content-Type": content_type}
    status, _body = await call(service, "POST", "/api/sessions", data=b'{"deviceId": "d"}', headers=headers)
    assert status == 201


async def test_the_client_is_recorded_through_trusted_proxies(make_service: MakeService) -> None:
    service = await make_service(TRUSTED_PROXIES="127.0.0.1")
    headers = {**bearer(), "X-Forwarded-For": "198.51.100.7", "User-Agent": "test-agent/1"}
    await call(service, "POST", "/api/sessions", json={"deviceId": "d"}, headers=headers)
    _status, body = await call(service, "GET", "/api/sessions")
    assert body["sessions"][0]["ip_address"] == "198.51.100.7"
    assert body["sessions"][0]["user_agent"] == "test-agent/1"


async def test_a_header_that_is_no_text_does_no_harm(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    body = b'{"deviceId": "d"}'
    authorization = bearer()["Authorization"].encode()
    writer.write(
        b"POST /api/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: \xff\xfe\x80\r\n"
        b"Authorization: %b\r\nContent-Length: %d\r\n\r\n%b" % (authorization, len(body), body)
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 201 ")


async def test_calls_extend_the_session(make_service: MakeService, database: Database) -> None:
    service = await make_service()
    session_id = await create(service)
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("UPDATE session.active_sessions SET expires_at = now() + interval '60 seconds'")
    await call(service, "GET", f"/api/sessions/{session_id}")
    async with asyncio.timeout(30):
        while await connection.fetchval(
            "SELECT expires_at < now() + interval '1 hour' - interval '30 s' FROM session.active_sessions"
        ):
            await asyncio.sleep(0.05)
    await connection.close()
