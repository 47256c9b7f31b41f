"""A client that comes back by REST, by a message, or by a connection: the same in metadata and answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api_client import ApiClient
from tests.support.service import Service
from tests.support.websocket_client import connect

SHOWN = ("reconnect_count", "pod_name", "device_id", "status")


async def by_rest(service: Service, session_id: str, client_id: str | None, attempt: int) -> dict[str, Any]:
    """Beside an open socket, which makes the session ACTIVE as in the other ways."""
    body = {"deviceId": "device-1", "attempt": attempt, **({} if client_id is None else {"clientId": client_id})}
    async with connect(service, sessionId=session_id, clientId="bystander"):
        api = ApiClient(service.http)
        status, answer = await api.call("POST", f"/api/sessions/{session_id}/reconnect", json=body)
        assert status == 200, answer
        session: dict[str, Any] = answer["session"]
        assert session == {
            **(await api.session(session_id)),
            **{name: session[name] for name in ("last_active", "expires_at")},
        }
        return session


async def by_connection(service: Service, session_id: str, client_id: str | None, attempt: int) -> dict[str, Any]:
    query: dict[str, Any] = {"sessionId": session_id, "attempt": attempt}
    if client_id is not None:
        query["clientId"] = client_id
    async with connect(service, **query):
        return await ApiClient(service.http).session(session_id)


async def by_message(service: Service, session_id: str, client_id: str | None, attempt: int) -> dict[str, Any]:
    query: dict[str, Any] = {"sessionId": session_id, "attempt": attempt}
    if client_id is not None:
        query["clientId"] = client_id
    async with connect(service, **query) as client:
        result = await client.ask("reconnect", deviceId="device-1")
        assert result["type"] == "reconnect_result"
        assert (result["success"], result["deviceIdValid"], result["sessionStatus"]) == (True, True, "valid")
        return await ApiClient(service.http).session(session_id)


WAYS = {"rest": by_rest, "connection": by_connection, "message": by_message}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@every_way
@pytest.mark.parametrize("client_id", ["tab", None], ids=["named", "unnamed"])
async def test_every_way_gives_the_same(service: Service, way: Any, client_id: str | None) -> None:
    session_id = await ApiClient(service.http).open_session()
    first = await way(service, session_id, client_id, 1)
    assert {name: first[name] for name in SHOWN} == {
        "reconnect_count": 1,
        "pod_name": "pod-under-test",
        "device_id": "device-1",
        "status": "ACTIVE",
    }
    assert first["last_reconnect"] > 1_700_000_000
    repeated = await way(service, session_id, client_id, 1)  # the reply was lost
    assert (repeated["reconnect_count"], repeated["last_reconnect"]) == (1, first["last_reconnect"])
    assert (await way(service, session_id, client_id, 2))["reconnect_count"] == 2


@pytest.mark.parametrize("rest_client_id", ["tab", None], ids=["named", "unnamed"])
async def test_one_reconnect_said_in_three_ways_counts_once(service: Service, rest_client_id: str | None) -> None:
    session_id = await ApiClient(service.http).open_session()
    for way, client_id in ((by_rest, rest_client_id), (by_connection, "tab"), (by_message, "tab")):
        assert (await way(service, session_id, client_id, 3))["reconnect_count"] == 1


async def test_a_late_repetition_of_an_older_attempt_counts_nothing(service: Service) -> None:
    session_id = await ApiClient(service.http).open_session()
    for attempt, count in ((1, 1), (4, 2), (1, 2), (3, 2), (5, 3)):
        assert (await by_rest(service, session_id, "tab", attempt))["reconnect_count"] == count


async def test_tabs_count_each_for_itself(service: Service) -> None:
    session_id = await ApiClient(service.http).open_session()
    for number in range(1, 4):
        assert (await by_connection(service, session_id, f"tab-{number}", 1))["reconnect_count"] == number
    assert (await by_connection(service, session_id, "tab-1", 1))["reconnect_count"] == 3


async def test_a_first_connection_is_no_reconnect(service: Service) -> None:
    session_id = await ApiClient(service.http).open_session()
    session = await by_connection(service, session_id, "tab", 0)
    assert session["reconnect_count"] == 0
    assert "last_reconnect" not in session


async def test_another_device_is_refused_each_way(service: Service) -> None:
    api = ApiClient(service.http)
    session_id = await api.open_session()
    status, body = await api.call(
        "POST", f"/api/sessions/{session_id}/reconnect", json={"deviceId": "device-2", "attempt": 1}
    )
    assert (status, body["code"]) == (409, "DEVICE_MISMATCH")
    async with connect(
        service,
        sessionId=session_id,
        deviceId="device-2",
        clientId="tab",
        attempt=1,
        connected=False,
        protocols=("session.v1",),
    ) as refused:
        assert (await refused.receive())["errorCode"] == "DEVICE_MISMATCH"
        assert await refused.close_code() == 4506
    async with connect(service, sessionId=session_id, clientId="tab") as client:
        result = await client.ask("reconnect", deviceId="device-2")
        assert (result["success"], result["deviceIdValid"], result["sessionStatus"]) == (False, False, "valid")
    assert (await api.session(session_id))["reconnect_count"] == 0
