"""Redis killed, frozen, flushed under load: nothing but speed is lost, and of that no more than 50 ms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from tests.support.api_client import ApiClient
from tests.support.followers import Follower
from tests.support.invariants import check_invariants
from tests.support.load import RestLoad, percentile
from tests.support.measured import Measured
from tests.support.pod_process import PodProcess, pod_process
from tests.support.process_faults import frozen, kill
from tests.support.servers import Database, TestServers

SLOWER_BY_S = 0.05
BASE_S = 1.0  # of undisturbed load, to compare with


@pytest.fixture
async def pod(own_servers: TestServers, own_database: Database, tmp_path: Path) -> AsyncIterator[PodProcess]:
    environ = {**own_database.environ(), **own_servers.redis_environ()}
    async with pod_process(tmp_path, environ) as started:
        await started.is_ready()
        yield started


@pytest.mark.parametrize("fault", ["frozen", "killed", "flushed"])
async def test_redis(
    fault: str,
    own_servers: TestServers,
    own_database: Database,
    pod: PodProcess,
    outage_s: float,
    measured: Measured,
) -> None:
    valkey = own_servers.valkey
    api = ApiClient(pod.http, "alice")
    await api.start_simulator(await api.open_session())
    async with Follower(pod.http, "alice") as follower, RestLoad(pod.http) as load:
        await load.recovered(within_s=5)
        await follower.at_least(3, within_s=5)
        follower.longest_gap_s = 0.0
        base_at = time.monotonic()
        await asyncio.sleep(BASE_S)
        broken_at = time.monotonic()
        match fault:
            case "frozen":
                with frozen(valkey.pid):
                    await _ready_all_the_while(pod, outage_s)
            case "killed":
                kill(valkey.pid)
                await valkey.wait()
                await _ready_all_the_while(pod, outage_s)
                await valkey.start()
            case "flushed":
                async with redis_asyncio.Redis.from_url(valkey.url()) as client:
                    await client.flushall()
                await _ready_all_the_while(pod, outage_s)
        back_at = time.monotonic()
        await asyncio.sleep(1.0)
        follower.check()
        assert follower.connections == 1, follower.close_codes
        assert follower.longest_gap_s <= 1.5

    base = percentile(load.since(base_at, broken_at), 0.99)
    during = percentile(load.since(broken_at, back_at), 0.99)
    measured.row(
        f"Redis {fault} for {outage_s:g} s",
        p99_before_ms=round(base * 1000, 1),
        p99_during_ms=round(during * 1000, 1),
        calls=len(load.calls),
        errors=sum(call.status not in {200, 201} for call in load.calls),
    )
    assert {call.status for call in load.calls} <= {200, 201}
    assert during <= base + SLOWER_BY_S
    await check_invariants(own_database.owner_dsn)


async def _ready_all_the_while(pod: PodProcess, outage_s: float) -> None:
    until = time.monotonic() + outage_s
    while time.monotonic() < until:
        assert await pod.status("/readiness") == 200
        await asyncio.sleep(0.1)


async def test_redis_thawed_with_old_contents_gives_no_stale_answer(
    own_servers: TestServers, pod: PodProcess, outage_s: float
) -> None:
    api = ApiClient(pod.http)
    ended, kept = await api.open_session("ended"), await api.open_session("kept")
    with frozen(own_servers.valkey.pid):
        assert (await api.call("DELETE", f"/api/sessions/{ended}"))[0] == 200
        new = await api.open_session("ended")
        await asyncio.sleep(min(1.0, outage_s))
    assert new != ended
    for _ in range(20):
        assert (await api.call("GET", f"/api/sessions/{ended}"))[0] == 404
        assert await api.open_session("ended") == new
        assert await api.open_session("kept") == kept
