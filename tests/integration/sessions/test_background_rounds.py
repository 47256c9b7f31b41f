"""The pod's background loops: all there, measured, and none ends unseen (the flow document's background tasks)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.api_client import ApiClient
from tests.support.service import Service
from tests.support.waiting import eventually

ROUNDS = {
    "pod_beat",
    "session_expiry",
    "session_cleanup",
    "sweeper_lease",
    "pod_purge",
    "activity_flush",
    "metadata_flush",
    "presence_flush",
    "socket_round",
    "websocket_cleanup",
    "simulator_heartbeat",
    "simulator_resync",
    "simulator_teardown",
    "simulator_inactivity",
}


async def test_every_round_is_made_and_measured(service: Service) -> None:
    async def metrics() -> str:
        async with service.http.get("/metrics") as response:
            return await response.text()

    async def missing_are_none() -> bool:
        text = await metrics()
        return all(f'session_background_pass_duration_seconds_count{{loop="{name}"}}' in text for name in ROUNDS)

    await eventually(missing_are_none, within_s=20, what="a pass of every round")
    failed = [line for line in (await metrics()).splitlines() if line.startswith("session_background_errors_total{")]
    assert [line for line in failed if not line.endswith(" 0.0")] == []


async def test_a_loop_that_ends_by_itself_ends_the_pod_in_order_with_1(service: Service) -> None:
    async def returns() -> None:
        return

    service.server._guard.spawn("broken", returns())
    async with asyncio.timeout(30):
        await service.server.wait_for_shutdown()
    assert service.server.exit_code == 1


async def test_gauges_say_what_the_database_has(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    for user in ("one", "two", "three"):
        await ApiClient(service.http, user).open_session()

    async def shows_three() -> bool:
        async with service.http.get("/metrics") as response:
            return "session_active_sessions 3.0" in await response.text()

    await eventually(shows_three, within_s=30, what="session_active_sessions 3")
