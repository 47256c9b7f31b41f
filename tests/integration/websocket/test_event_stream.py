"""Server-sent events: the same frames for clients without WebSockets (docs/protocol.md#server-sent-events)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from session_service.domain.session import EndReason
from tests.support.service import Service, bearer, token
from tests.support.websocket_client import connect

Event = tuple[str, str | None, dict[str, Any]]


class EventSource:
    """One stream. ``comments``: how many came between the events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments = 0

    async def next(self, *types: str) -> Event | None:
        """The next event (of these types); None at the stream's end."""
        async with asyncio.timeout(30):
            while True:
                block = await self._block()
                if block is None:
                    return None
                if block and (not types or block["event"] in types):
                    return block["event"], block.get("id"), json.loads(block["data"])

    async def _block(self) -> dict[str, str] | None:
        fields: dict[str, str] = {}
        while True:
            line = (await self.response.content.readline()).decode()
            if not line:
                return None
            if line == "\n":
                return fields
            if line.startswith(":"):
                self.comments += 1
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value


@asynccontextmanager
async def events(
    service: Service, session_id: str, *, headers: Mapping[str, str] | None = None, **query: str
) -> AsyncIterator[EventSource]:
    async with service.http.get(
        f"/api/sessions/{session_id}/events",
        params=query,
        headers={"Accept": "text/event-stream", **(bearer() if headers is None else headers)},
        timeout=aiohttp.ClientTimeout(total=None),
    ) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield EventSource(response)


async def new_session(service: Service) -> str:
    async with service.http.post("/api/sessions", json={"deviceId": "device-1"}, headers=bearer()) as response:
        return str((await response.json())["sessionId"])


async def post(service: Service, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with service.http.post(path, json=body, headers=bearer()) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def test_the_frames_of_the_socket_come_as_events_and_resume_by_last_event_id(trading_service: Service) -> None:
    service = trading_service
    session_id = await new_session(service)
    async with events(service, session_id) as source:
        first = await source.next()
        assert first is not None
        assert (first[0], first[2]["type"], first[2]["sessionId"]) == ("connected", "connected", session_id)
        assert first[1] is None
        await post(service, "/api/simulators", {"sessionId": session_id})
        while True:
            status = await source.next("simulator_status")
            assert status is not None
            if status[2]["status"] == "RUNNING":
                break
        snapshot = await source.next("exchange_data")
        assert snapshot is not None
        assert snapshot[2]["snapshot"] is True
        event = await source.next("exchange_data")
        assert event is not None
        assert event[1] == f"{event[2]['epoch']}:{event[2]['sequence']}"
        assert event[2]["fromSequence"] == snapshot[2]["sequence"] + 1
    async with events(service, session_id, headers={**bearer(), "Last-Event-ID": event[1] or ""}) as source:
        connected = await source.next()
        assert connected is not None
        assert connected[2]["resumed"] is True
        following = await source.next("exchange_data")
        assert following is not None
        assert following[2]["fromSequence"] == event[2]["sequence"] + 1


async def test_the_end_of_the_session_ends_the_stream(service: Service) -> None:
    session_id = await new_session(service)
    async with events(service, session_id) as source:
        await source.next("connected")
        async with service.http.delete(f"/api/sessions/{session_id}", headers=bearer()):
            pass
        ended = await source.next("session_ended")
        assert ended is not None
        assert ended[2]["reason"] == EndReason.ENDED
        assert await source.next() is None


async def test_who_may_read_it(service: Service) -> None:
    session_id = await new_session(service)
    path = f"/api/sessions/{session_id}/events"
    for headers, query, status in (
        ({}, {}, 401),
        ({"Authorization": "Bearer bad"}, {}, 401),
        ({}, {"token": token()}, 400),
        (bearer("somebody-else"), {}, 404),
        (bearer(), {"epoch": "1"}, 400),
    ):
        async with service.http.get(path, headers=headers, params=query) as response:
            assert response.status == status, (headers, query)
            assert (await response.json())["success"] is False
    async with service.http.get("/api/sessions/none/events", headers=bearer()) as response:
        assert response.status == 404


async def test_a_query_token_where_it_is_allowed(make_service: Callable[..., Any]) -> None:
    service = await make_service(WEBSOCKET_QUERY_TOKEN="allow")
    session_id = await new_session(service)
    async with events(service, session_id, headers={}, token=token()) as source:
        assert await source.next("connected") is not None


async def test_a_quiet_stream_has_comments_and_ends_with_its_token(service: Service) -> None:
    service.server._websockets._comment_interval_s = 0.5
    session_id = await new_session(service)
    async with events(service, session_id, headers=bearer(ttl_s=3.0)) as source:
        assert await source.next("connected") is not None
        assert await source.next() is None
        assert source.comments >= 1


async def test_it_is_counted_beside_the_sockets(service: Service) -> None:
    async with connect(service) as client:
        session_id = client.frames[0]["sessionId"]

        async def counts() -> tuple[int, int]:
            async with service.http.get(f"/api/sessions/{session_id}", headers=bearer()) as response:
                session = (await response.json())["session"]
            return session["frontend_connections"], session["sse_connections"]

        async def until(expected: tuple[int, int]) -> None:
            async with asyncio.timeout(30):
                while await counts() != expected:
                    await asyncio.sleep(0.05)

        async with events(service, session_id) as source:
            await source.next("connected")
            await until((1, 1))
            body, _ = service.server.metrics.render()
            assert b"session_sse_connections 1.0" in body
            assert b"session_websocket_connections 1.0" in body
        await until((1, 0))
    body, _ = service.server.metrics.render()
    assert b"session_sse_connections 0.0" in body
