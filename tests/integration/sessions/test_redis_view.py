"""What other services read in Redis: keys, times to live, and the channel (docs/operations.md#redis)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio as redis_asyncio

from tests.support.api_client import ApiClient
from tests.support.servers import TestServers
from tests.support.service import Service
from tests.support.waiting import eventually
from tests.support.websocket_client import connect


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Redis does not take in time is not shown and not said again: a busy machine has to have its time."""
    monkeypatch.setattr("session_service.database.redis.SOCKET_TIMEOUT_S", 10.0)


@pytest.fixture
async def redis(servers: TestServers) -> AsyncIterator[Any]:
    client = redis_asyncio.Redis.from_url(servers.valkey.url(), decode_responses=True)
    yield client
    await client.aclose()


async def test_a_pod_shows_itself_and_withdraws(redis: Any, service: Service) -> None:
    async def is_shown() -> bool:
        return bool(await redis.exists("pod:pod-under-test"))

    await eventually(is_shown, within_s=20, what="pod:{name}")
    pod = await redis.hgetall("pod:pod-under-test")
    assert pod["pod_name"] == "pod-under-test"
    assert 0 < await redis.ttl("pod:pod-under-test") <= 30
    assert "pod-under-test" in await redis.smembers("active_pods")
    await service.server.shutdown("test")
    assert not await redis.exists("pod:pod-under-test")
    assert "pod-under-test" not in await redis.smembers("active_pods")


async def test_a_session_is_shown_until_it_ends(redis: Any, api: ApiClient) -> None:
    session_id = await api.open_session()
    key = f"session:{session_id}"

    async def is_shown() -> bool:
        return bool(await redis.exists(key))

    await eventually(is_shown, within_s=20, what=key)
    shown = await redis.hgetall(key)
    assert (shown["user_id"], shown["device_id"], shown["status"]) == ("user-1", "device-1", "ACTIVE")
    assert 3500 < await redis.ttl(key) <= 3600
    await api.call("DELETE", f"/api/sessions/{session_id}")

    async def is_gone() -> bool:
        return not await redis.exists(key)

    await eventually(is_gone, within_s=20, what=f"{key} gone")


async def test_a_flushed_redis_changes_no_answer(redis: Any, api: ApiClient) -> None:
    session_id = await api.open_session()
    await redis.flushdb()
    assert (await api.session(session_id))["session_id"] == session_id
    assert await api.open_session() == session_id


async def test_the_channel_carries_the_documented_events(redis: Any, service: Service, api: ApiClient) -> None:
    heard: list[dict[str, Any]] = []
    subscriber = redis.pubsub(ignore_subscribe_messages=True)
    await subscriber.subscribe("session_events")

    async def listen() -> None:
        async for message in subscriber.listen():
            heard.append(json.loads(message["data"]))  # noqa: PERF401 - the loop never ends

    listening = asyncio.create_task(listen())
    try:
        async with connect(service, clientId="tab-1") as client:
            session_id = client.frames[0]["sessionId"]
            await client.socket.close()
        wanted = ["session_created", "client_connected", "client_disconnected", "session_ended"]

        async def all_heard(but: int = 0) -> bool:
            types = [event["type"] for event in heard if event.get("session_id") == session_id]
            return types == wanted[: len(wanted) - but]

        # Else the end of the session could overtake what the pod does for the closed socket.
        await eventually(lambda: all_heard(but=1), within_s=20, what=f"all but the last of {wanted}")
        await api.call("DELETE", f"/api/sessions/{session_id}")
        await eventually(all_heard, within_s=20, what=str(wanted))
        await service.server.shutdown("test")

        async def is_offline() -> bool:
            return any(event["type"] == "pod_offline" for event in heard)

        await eventually(is_offline, within_s=20, what="pod_offline")
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await subscriber.aclose()
    assert {event["pod_name"] for event in heard} == {"pod-under-test"}
    assert all(event["timestamp"] > 1_700_000_000_000 for event in heard)
    [connected] = [event for event in heard if event["type"] == "client_connected"]
    assert (connected["user_id"], connected["client_id"]) == ("user-1", "tab-1")


async def test_an_event_of_another_pod_ends_the_socket_here(redis: Any, service: Service) -> None:
    async with connect(service) as client:
        event = {
            "type": "session_ended",
            "pod_name": "another-pod",
            "timestamp": 1,
            "session_id": client.frames[0]["sessionId"],
            "user_id": "user-1",
            "reason": "ended",
        }
        await redis.publish("session_events", "not JSON")
        await redis.publish("session_events", json.dumps({**event, "type": "of_a_later_release"}))
        await redis.publish("session_events", json.dumps(event))
        assert await client.close_code() == 4503
