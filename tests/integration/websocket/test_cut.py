"""A page of a local run cuts its own connection: no close frame, nobody else's, and the client resumes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.support.service import Service, bearer
from tests.support.waiting import eventually
from tests.support.websocket_client import connect, raw_connect

IN_A_LOCAL_RUN = {
    "LOCAL_CONTROL_URL": "http://127.0.0.1:7001",
    "LOCAL_CONTROL_KEY": "key-of-this-run",
    "LOCAL_POD_URLS": "http://127.0.0.1:8080",
}

MakeService = Callable[..., Awaitable[Service]]


async def cut(service: Service, client_id: str, user_id: str = "user-1") -> int:
    path = f"/api/local/connections/{client_id}/cut"
    async with service.http.post(path, headers=bearer(user_id)) as response:
        answer = await response.json()
        assert response.status == 200, answer
        found: int = answer["cut"]
        return found


async def test_the_connection_ends_without_a_close_frame(make_service: MakeService) -> None:
    service = await make_service(**IN_A_LOCAL_RUN)
    async with raw_connect(service, "/ws?deviceId=device-1&clientId=tab-1") as raw:
        opcode, connected = await raw.read_frame()
        assert (opcode, b'"connected"' in connected) == (0x1, True)
        assert await cut(service, "tab-1") == 1
        assert await raw.close_code() is None
        assert await cut(service, "tab-1") == 0


async def test_only_the_callers_own_client_is_cut(make_service: MakeService) -> None:
    service = await make_service(**IN_A_LOCAL_RUN)
    async with (
        connect(service, "user-1", clientId="tab-1") as first,
        connect(service, "user-1", clientId="tab-2") as second,
        connect(service, "user-2", clientId="tab-1") as foreign,
    ):
        assert await cut(service, "tab-1", "user-1") == 1
        assert await first.close_code() == 1006
        for untouched in (second, foreign):
            assert (await untouched.ask("request_session"))["type"] == "session_info"


async def test_an_event_stream_is_cut_too_and_its_session_waits(make_service: MakeService) -> None:
    service = await make_service(**IN_A_LOCAL_RUN)
    async with service.http.post("/api/sessions", json={"deviceId": "device-1"}, headers=bearer()) as response:
        session_id = (await response.json())["sessionId"]
    path = f"/api/sessions/{session_id}"

    async def status() -> str:
        async with service.http.get(path, headers=bearer()) as response:
            found: str = (await response.json())["session"]["status"]
            return found

    async with service.http.get(f"{path}/events?clientId=tab-1", headers=bearer()) as stream:
        assert (await stream.content.readline()).startswith(b"event: connected")
        assert await cut(service, "tab-1") == 1

        async def is_lost() -> bool:
            return await status() == "RECONNECTING"

        await eventually(is_lost, within_s=20, what="the session waits for its client")
