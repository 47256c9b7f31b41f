"""What the channel ``session_events`` says of simulators, by the documented types (docs/operations.md#redis)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis.asyncio as redis_asyncio

from tests.support.api_client import ApiClient
from tests.support.servers import TestServers
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Redis does not take in time is not said again: a busy machine has to have its time."""
    monkeypatch.setattr("session_service.database.redis.SOCKET_TIMEOUT_S", 10.0)


async def test_each_start_and_each_end_is_told_by_documented_types_only(servers: TestServers, api: ApiClient) -> None:
    heard: list[dict[str, Any]] = []
    redis: Any = redis_asyncio.Redis.from_url(servers.valkey.url(), decode_responses=True)
    subscriber = redis.pubsub(ignore_subscribe_messages=True)
    try:
        await subscriber.subscribe("session_events")
        session_id = await api.open_session()
        stopped = await api.start_simulator(session_id)
        await api.call("DELETE", f"/api/simulators/{stopped}")
        await api.simulator_is(stopped, "STOPPED")
        went_with_its_session = await api.start_simulator(session_id)
        await api.call("DELETE", f"/api/sessions/{session_id}")

        async def both_have_stopped() -> bool:
            message = await subscriber.get_message(timeout=0.1)
            if message is not None:
                heard.append(json.loads(message["data"]))
            return [event["type"] for event in heard].count("simulator_stopped") == 2

        await eventually(both_have_stopped, within_s=20, what="two simulator_stopped")
    finally:
        await subscriber.aclose()
        await redis.aclose()
    of_session = [event for event in heard if event.get("session_id") == session_id]
    assert {event["type"] for event in of_session} == {
        "session_created",
        "simulator_started",
        "simulator_stopped",
        "session_ended",
    }
    stops = [event for event in of_session if event["type"] == "simulator_stopped"]
    assert [event["simulator_id"] for event in stops] == [stopped, went_with_its_session]
    assert {event["status"] for event in stops} == {"STOPPED"}
