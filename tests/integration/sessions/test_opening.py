"""POST /api/sessions among many at once, and at the limit: PostgreSQL decides (docs/lifecycle.md#sessions)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support.api_client import ApiClient
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import connect


async def open_many(api: ApiClient, devices: list[str]) -> list[tuple[int, dict[str, Any]]]:
    return await asyncio.gather(*(api.call("POST", "/api/sessions", json={"deviceId": device}) for device in devices))


async def test_200_posts_of_one_device_make_one_session(api: ApiClient, sql: Sql) -> None:
    answers = await open_many(api, ["device-1"] * 200)
    assert Counter(status for status, _body in answers) == {201: 1, 200: 199}
    assert len({body["sessionId"] for _status, body in answers}) == 1
    assert [body["isNew"] for status, body in answers if status == 201] == [True]
    assert await sql.fetchval("SELECT count(*) FROM session.active_sessions") == 1


async def test_many_devices_at_once_never_pass_the_limit(make_service: Callable[..., Any], sql: Sql) -> None:
    service: Service = await make_service(MAX_SESSIONS_PER_USER="3")
    answers = await open_many(ApiClient(service.http), [f"device-{number}" for number in range(40)])
    # None has a socket, so each new one ends the oldest.
    assert Counter(status for status, _body in answers) == {201: 40}
    assert await sql.fetchval("SELECT count(*) FROM session.active_sessions") == 3


async def only_one_socket(sql: Sql) -> bool:
    return bool(await sql.fetchval("SELECT count(*) = 1 FROM session.sockets"))


async def test_at_the_limit_the_oldest_session_without_a_socket_ends(
    make_service: Callable[..., Any], sql: Sql
) -> None:
    service: Service = await make_service(MAX_SESSIONS_PER_USER="2")
    api = ApiClient(service.http)
    async with connect(service, deviceId="first") as first, connect(service, deviceId="second") as second:
        status, body = await api.call("POST", "/api/sessions", json={"deviceId": "third"})
        assert (status, body["code"]) == (409, "SESSION_LIMIT_REACHED")
        # Those that are there are still given out.
        assert (await api.call("POST", "/api/sessions", json={"deviceId": "first"}))[0] == 200
        await second.socket.close()
        await eventually(lambda: only_one_socket(sql), within_s=20, what="the closed socket to be uncounted")
        await api.open_session("third")
        assert (await first.ask("request_session"))["status"] == "ACTIVE"
    devices = await sql.fetch("SELECT device_id FROM session.active_sessions ORDER BY 1")
    assert [row["device_id"] for row in devices] == ["first", "third"]


async def test_another_users_sessions_do_not_count(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(MAX_SESSIONS_PER_USER="1")
    one = await ApiClient(service.http, "one").open_session()
    two = await ApiClient(service.http, "two").open_session()
    assert one != two
    assert await ApiClient(service.http, "one").open_session() == one
