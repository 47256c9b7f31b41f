"""PostgreSQL frozen under load: streams go on, calls are bounded, nothing is lost.

Killed and restarted under three pods: test_pods_without_servers.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.support.api_client import ApiClient
from tests.support.followers import Follower
from tests.support.invariants import check_invariants
from tests.support.load import RestLoad
from tests.support.measured import Measured
from tests.support.pod_process import PodProcess, pod_process
from tests.support.process_faults import frozen
from tests.support.servers import Database, TestServers
from tests.support.stalls import Stalls

LONGEST_REQUEST_S = 3.0 + 0.5  # and what a busy machine adds
NORMAL_WITHIN_S = 2.0 + 0.5


@pytest.fixture
async def pod(own_servers: TestServers, own_database: Database, tmp_path: Path) -> AsyncIterator[PodProcess]:
    environ = {**own_database.environ(), **own_servers.redis_environ()}
    async with pod_process(tmp_path, environ) as started:
        await started.is_ready()
        yield started


@pytest.fixture
async def followers(pod: PodProcess) -> AsyncIterator[list[Follower]]:
    """Two clients whose simulators run."""
    users = ["alice", "bob"]
    async with AsyncExitStack() as exits:
        made = []
        for user in users:
            api = ApiClient(pod.http, user)
            await api.start_simulator(await api.open_session())
            made.append(await exits.enter_async_context(Follower(pod.http, user)))
        for follower in made:
            await follower.at_least(5, within_s=30)
            follower.longest_gap_s = 0.0
        yield made


async def test_postgres_frozen(
    own_servers: TestServers,
    own_database: Database,
    pod: PodProcess,
    followers: list[Follower],
    outage_s: float,
    measured: Measured,
) -> None:
    postgres = own_servers.postgres
    async with RestLoad(pod.http) as load:
        await load.recovered(within_s=30)
        broken_at = time.monotonic()
        with frozen(postgres.pid):
            await _outage(pod, outage_s, load.stalls)
        back_at = time.monotonic()
        normal_at = await load.recovered(within_s=40)
        await asyncio.gather(*(follower.at_least(10, within_s=30) for follower in followers))
        await pod.is_ready(within_s=20)

    during = load.since(broken_at, back_at)
    statuses = {call.status for call in load.since(broken_at)}
    longest_s = max(call.duration_s for call in load.since(broken_at))
    measured.row(
        f"PostgreSQL frozen for {outage_s:g} s",
        longest_request_s=round(longest_s, 2),
        normal_after_s=round(max(0.0, load.stalls.took_s(back_at, normal_at)), 2),
        longest_stream_gap_s=round(max(follower.longest_gap_s for follower in followers), 2),
        acknowledged=len(load.acknowledged),
    )
    assert statuses <= {200, 201, 503}
    assert any(call.status == 503 for call in during), "nothing noticed the fault"
    assert all(int(call.retry_after or 0) >= 1 for call in during if call.status == 503)
    assert longest_s <= LONGEST_REQUEST_S
    assert load.stalls.took_s(back_at, normal_at) <= NORMAL_WITHIN_S
    for follower in followers:
        follower.check()
        assert follower.connections == 1, follower.close_codes
        assert follower.longest_gap_s <= 1.5
        assert follower.stream.snapshots == 1
    await _nothing_acknowledged_is_lost(own_database, load)
    await check_invariants(own_database.owner_dsn)


async def _outage(pod: PodProcess, outage_s: float, stalls: Stalls) -> None:
    """The pod says that it lives and that it is not ready, all the while."""
    until = time.monotonic() + outage_s
    seen_not_ready = False
    while time.monotonic() < until:
        started = time.monotonic()
        assert await pod.status("/health") == 200
        assert stalls.took_s(started) <= 1.0
        seen_not_ready = seen_not_ready or await pod.status("/readiness") == 503
        await asyncio.sleep(0.1)
    assert seen_not_ready
    assert await pod.status("/readiness") == 503


async def _nothing_acknowledged_is_lost(database: Database, load: RestLoad) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT session_id, user_id FROM session.active_sessions")
    finally:
        await connection.close()
    there = {(row["session_id"], row["user_id"]) for row in rows}
    assert set(load.acknowledged) <= there
    assert load.acknowledged
