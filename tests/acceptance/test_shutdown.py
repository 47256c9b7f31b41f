"""The end of a pod by signal (the flow document's shutdown): told, in order, bounded, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil
import pytest

from tests.support.api_client import ApiClient
from tests.support.pod_process import PodProcess, pod_process
from tests.support.process_faults import frozen, simulator_process
from tests.support.servers import Database, TestServers
from tests.support.service import bearer
from tests.support.stalled_reader import StalledReader
from tests.support.stalls import Stalls
from tests.support.waiting import eventually

ENDS_WITHIN_S = 15.0


@pytest.fixture
async def pod(servers: TestServers, database: Database, tmp_path: Path) -> AsyncIterator[PodProcess]:
    environ = {**database.environ(), **servers.redis_environ(), "DRAIN_WINDOW_SECONDS": "2"}
    async with pod_process(tmp_path, environ) as started:
        await started.is_ready()
        yield started


async def drains(pod: PodProcess) -> None:
    async def is_draining() -> bool:
        return await pod.status("/readiness") == 503

    await eventually(is_draining, within_s=20, what="/readiness 503")


async def read_to_the_end(socket_: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    return [json.loads(message.data) async for message in socket_ if message.type is aiohttp.WSMsgType.TEXT]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_pod_in_order(
    pod: PodProcess, database: Database, stalls: Stalls, number: signal.Signals
) -> None:
    api = ApiClient(pod.http)
    session_id = await api.open_session()
    simulator = simulator_process(await api.start_simulator(session_id))
    children = psutil.Process(pod.pid).children(recursive=True)
    assert simulator in children
    async with StalledReader.connected(pod.port, bearer("staller")) as stalled:
        await ApiClient(pod.http, "staller").start_simulator(stalled.session_id)
        async with pod.http.ws_connect("/ws?deviceId=device-1", headers=bearer()) as client:
            assert json.loads((await client.receive()).data)["type"] == "connected"
            started = time.monotonic()
            pod.signal(number)
            frames = await asyncio.wait_for(read_to_the_end(client), 2 * ENDS_WITHIN_S)
            assert client.close_code == 1012
            [told] = [frame for frame in frames if frame["type"] == "pod_terminating"]
            assert told["reconnectAfterMs"] >= 0
            assert told["deadlineMs"] >= 0
            assert told["reason"]
        assert await pod.ended() == 0
        assert stalls.took_s(started) <= ENDS_WITHIN_S
    assert not [child for child in children if child.is_running()]
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT status, reason FROM simulator.instances")
        assert {tuple(row) for row in rows} == {("STOPPED", "pod_terminated")}
        assert await connection.fetchval("SELECT count(*) FROM session.pods") == 0
        assert await connection.fetchval("SELECT count(*) FROM session.sockets") == 0
        statuses = await connection.fetch("SELECT DISTINCT status FROM session.active_sessions")
        assert [row["status"] for row in statuses] == ["RECONNECTING"]
    finally:
        await connection.close()
    assert "Traceback" not in pod.output


async def test_a_second_signal_ends_at_once(
    servers: TestServers, database: Database, tmp_path: Path, stalls: Stalls
) -> None:
    environ = {**database.environ(), **servers.redis_environ(), "DRAIN_DELAY_SECONDS": "60"}
    async with pod_process(tmp_path, environ) as pod:
        await pod.is_ready()
        api = ApiClient(pod.http)
        children = [simulator_process(await api.start_simulator(await api.open_session()))]
        pod.signal(signal.SIGTERM)

        await drains(pod)
        # It goes on serving while endpoints propagate.
        assert await pod.status("/health") == 200
        assert (await api.call("GET", "/api/sessions"))[0] == 200
        started = time.monotonic()
        pod.signal(signal.SIGTERM)
        assert await pod.ended() == 1
        assert stalls.took_s(started) <= 1.5  # of the 60 s that are left

        async def none_is_left() -> bool:
            return not any(child.is_running() for child in children)

        await eventually(none_is_left, within_s=30, what="the end of its simulators")


async def test_after_the_delay_new_upgrades_are_sent_elsewhere(
    servers: TestServers, database: Database, tmp_path: Path
) -> None:
    environ = {**database.environ(), **servers.redis_environ(), "DRAIN_DELAY_SECONDS": "4"}
    async with pod_process(tmp_path, environ) as pod:
        await pod.is_ready()
        pod.signal(signal.SIGTERM)
        await drains(pod)
        async with pod.http.ws_connect("/ws?deviceId=device-1", headers=bearer()) as client:
            assert json.loads((await client.receive()).data)["type"] == "connected"
            frames = await asyncio.wait_for(read_to_the_end(client), 60)
            assert client.close_code == 1012
            assert "pod_terminating" in {frame["type"] for frame in frames}
        assert await pod.ended() == 0


async def test_a_pod_whose_database_is_frozen_still_ends(
    own_servers: TestServers, own_database: Database, tmp_path: Path
) -> None:
    """And leaves its simulators' rows as they are: nobody can say whether it was the last."""
    environ = {**own_database.environ(), **own_servers.redis_environ()}
    async with pod_process(tmp_path, environ) as pod:
        await pod.is_ready()
        api = ApiClient(pod.http)
        await api.start_simulator(await api.open_session())
        with frozen(own_servers.postgres.pid), frozen(own_servers.valkey.pid):
            started = time.monotonic()
            pod.signal(signal.SIGTERM)
            assert await pod.ended(within_s=60) == 0
            took_s = time.monotonic() - started
        assert took_s <= 45, took_s  # the grace period of docs/operations.md#shutdown
    connection = await asyncpg.connect(own_database.owner_dsn)
    try:
        assert await connection.fetchval("SELECT status FROM simulator.instances") == "RUNNING"
    finally:
        await connection.close()


async def test_half_open_connections_do_not_hold_the_pod(pod: PodProcess, stalls: Stalls) -> None:
    """Peers that connected and say nothing, or stopped in the middle of a request."""
    peers = [socket.create_connection(("127.0.0.1", pod.port)) for _ in range(20)]
    try:
        for peer in peers[::2]:
            peer.sendall(b"POST /api/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        started = time.monotonic()
        pod.signal(signal.SIGTERM)
        assert await pod.ended() == 0
        assert stalls.took_s(started) <= ENDS_WITHIN_S
    finally:
        for peer in peers:
            peer.close()
