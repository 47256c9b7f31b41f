"""Three pods whose PostgreSQL or Redis is restarted, killed, frozen, emptied: bounded, and nothing lost or stale."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio as redis_asyncio

from tests.support.cluster_template import ClusterTemplate
from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.load import Call, RestLoad, percentile
from tests.support.measured import Measured
from tests.support.pod_cluster import PodCluster
from tests.support.process_faults import frozen, kill
from tests.support.servers import TestServers
from tests.support.streaming_client import StreamingClient, streaming_clients
from tests.support.workloads import shared_exchange

LONGEST_REQUEST_S = 3.0 + 0.5  # while PostgreSQL is away; and what a busy machine adds
NORMAL_WITHIN_S = 2.0 + 0.5
LONGEST_STREAM_GAP_S = 1.5
SLOWER_BY_S = 0.15  # while Redis is away; a request that waited for it once would take 0.25 s more
BASE_S = 1.5  # of undisturbed load, to compare with
STREAMS = 6

# One cluster for all: each test leaves its servers as they were, and the pods have to have noticed nothing.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_servers(
    tmp_path_factory: pytest.TempPathFactory, cluster_template: ClusterTemplate
) -> AsyncIterator[TestServers]:
    servers = TestServers(tmp_path_factory.mktemp("servers"), cluster_template)
    await servers.start()
    yield servers
    await servers.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(
    own_servers: TestServers, tmp_path_factory: pytest.TempPathFactory, times: FaultTimes
) -> AsyncIterator[PodCluster]:
    directory = tmp_path_factory.mktemp("pods")
    environ = {**own_servers.redis_environ(), **times.environ()}
    async with (
        shared_exchange(directory) as exchange,
        PodCluster(directory, await own_servers.create_database(), exchange, environ) as started,
    ):
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def clients(cluster: PodCluster) -> AsyncIterator[list[StreamingClient]]:
    """Two of each pod."""
    async with AsyncExitStack() as exits:
        made = await streaming_clients(exits, cluster, [f"reader-{number}" for number in range(STREAMS)])
        for client in made:
            client.longest_gap_s = 0.0
        yield made


class StaleAnswers:
    """Looks for an answer of one pod that is older than what another has acknowledged."""

    def __init__(self, cluster: PodCluster) -> None:
        self.found: list[str] = []
        self.asked = 0
        self._cluster = cluster
        self._ended: list[tuple[str, str]] = []  # user, session
        self._current: dict[str, str] = {}

    async def look(self, user: str) -> None:
        """Each pod in turn ends the session and makes another; all of them know it when that is answered."""
        apis = [self._cluster.api(user, pod) for pod in self._cluster.pods]
        session_id = await apis[0].open_session()
        for api in apis:
            assert (await api.call("DELETE", f"/api/sessions/{session_id}"))[0] == 200
            self._ended.append((user, session_id))
            for other in apis:
                self._expect(404, (await other.call("GET", f"/api/sessions/{session_id}"))[0], "an ended session")
            new = await api.open_session()
            for other in apis:
                self._expect(new, await other.open_session(), "the session of the device")
                self._expect(200, (await other.call("GET", f"/api/sessions/{new}"))[0], "a new session")
            self._current[user] = session_id = new

    async def look_back(self) -> None:
        """What was true at any moment before, and is no more: every pod knows better."""
        for pod in self._cluster.pods:
            for user, session_id in self._ended:
                status, _ = await self._cluster.api(user, pod).call("GET", f"/api/sessions/{session_id}")
                self._expect(404, status, "a session that ended long ago")
            for user, session_id in self._current.items():
                self._expect(
                    session_id, await self._cluster.api(user, pod).open_session(), "the session of the device"
                )

    def _expect(self, wanted: object, got: object, what: str) -> None:
        self.asked += 1
        if wanted != got:
            self.found.append(f"{what}: {got} instead of {wanted}")


async def test_redis(
    own_servers: TestServers,
    cluster: PodCluster,
    clients: list[StreamingClient],
    times: FaultTimes,
    outage_s: float,
    measured: Measured,
) -> None:
    valkey = own_servers.valkey
    undisturbed: list[Call] = []
    for fault in ("frozen", "killed", "flushed"):
        stale = StaleAnswers(cluster)
        for client in clients:
            client.longest_gap_s = 0.0
        async with RestLoad(cluster.http) as load:
            await load.recovered(within_s=30)
            await stale.look("user-0")  # so that Redis has what will be old
            base_at = time.monotonic()
            await asyncio.sleep(BASE_S)
            broken_at = time.monotonic()
            match fault:
                case "frozen":
                    with frozen(valkey.pid):
                        await _asked_all_the_while(cluster, stale, outage_s)
                case "killed":
                    kill(valkey.pid)
                    await valkey.wait()
                    await _asked_all_the_while(cluster, stale, outage_s)
                    await valkey.start()
                case "flushed":
                    async with redis_asyncio.Redis.from_url(valkey.url()) as redis:
                        await redis.flushall()
                    await _asked_all_the_while(cluster, stale, BASE_S)
            back_at = time.monotonic()
            # Thawed, it still has what was true before; emptied, it has nothing.
            await stale.look_back()
        longest_gap_s = max(client.longest_gap_s for client in clients)
        undisturbed += load.since(base_at, broken_at)
        base = percentile(undisturbed, 0.99)
        during = percentile(load.since(broken_at, back_at), 0.99)
        errors = [call for call in load.calls if call.status not in {200, 201}]
        measured.row(
            f"Redis {fault} under three pods for {back_at - broken_at:.0f} s",
            p99_before_ms=round(base * 1000, 1),
            p99_during_ms=round(during * 1000, 1),
            calls=len(load.calls),
            errors=len(errors),
            stale_answers=len(stale.found),
            asked=stale.asked,
            longest_stream_gap_s=round(longest_gap_s, 2),
        )
        assert errors == []
        assert stale.found == []
        assert during <= base + SLOWER_BY_S
        assert {len(client.pods) for client in clients} == {1}
        assert longest_gap_s <= LONGEST_STREAM_GAP_S
    await check_cluster_invariants(cluster, within_s=2 * times.settled_within_s)


async def _asked_all_the_while(cluster: PodCluster, stale: StaleAnswers, for_s: float) -> None:
    until = time.monotonic() + for_s
    turn = 0
    while time.monotonic() < until:
        for pod in cluster.pods:
            await pod.is_ready(within_s=1.0)  # for as long as Redis is away, else; but not for an answer in a stall
        await stale.look(f"user-{turn % 3}")
        turn += 1
        await asyncio.sleep(0.1)


async def test_postgres_restarted_and_gone(
    own_servers: TestServers,
    cluster: PodCluster,
    clients: list[StreamingClient],
    times: FaultTimes,
    outage_s: float,
    measured: Measured,
) -> None:
    postgres = own_servers.postgres
    pods, simulators = await _pods(cluster), await cluster.workloads.simulator_ids()
    assert len(pods) == len(cluster.pods)
    async with RestLoad(cluster.http) as load:
        for fault, away_s in (("restarted", 0.0), ("gone", outage_s)):
            await load.recovered(within_s=30)
            broken_at = time.monotonic()
            if fault == "restarted":
                await postgres.stop()
            else:
                kill(postgres.pid)
                await postgres.wait()
                await _healthy_and_not_ready(cluster, away_s)
            await postgres.start()
            back_at = time.monotonic()
            normal_at = await load.recovered(within_s=40)
            await asyncio.gather(*(pod.is_ready(within_s=20) for pod in cluster.pods))

            calls, during = load.since(broken_at), load.since(broken_at, back_at)
            longest_s = max(call.duration_s for call in calls)
            measured.row(
                f"PostgreSQL {fault} under three pods" + (f" for {away_s:g} s" if away_s else ""),
                longest_request_s=round(longest_s, 2),
                normal_after_s=round(max(0.0, load.stalls.took_s(back_at, normal_at)), 2),
                longest_stream_gap_s=round(max(client.longest_gap_s for client in clients), 2),
                acknowledged=len(load.acknowledged),
            )
            assert {call.status for call in calls} <= {200, 201, 503}
            assert all(int(call.retry_after or 0) >= 1 for call in during if call.status == 503)
            assert fault == "restarted" or any(call.status == 503 for call in during), "nothing noticed the fault"
            assert longest_s <= LONGEST_REQUEST_S
            assert load.stalls.took_s(back_at, normal_at) <= NORMAL_WITHIN_S

    for client in clients:
        await client.has_frames(5, within_s=30)
        assert len(client.pods) == 1
        assert client.longest_gap_s <= LONGEST_STREAM_GAP_S
        assert (client.gaps, client.duplicates) == (0, 0)
    # Silence of PostgreSQL is no pod's death, and no simulator's.
    await asyncio.sleep(times.settled_within_s)
    assert await _pods(cluster) == pods
    assert await cluster.workloads.simulator_ids() == simulators
    await _nothing_acknowledged_is_lost(cluster, load)
    await check_cluster_invariants(cluster, within_s=2 * times.settled_within_s)


async def _healthy_and_not_ready(cluster: PodCluster, away_s: float) -> None:
    until = time.monotonic() + away_s
    while time.monotonic() < until:
        for pod in cluster.pods:
            started = time.monotonic()
            assert await pod.status("/health") == 200
            assert cluster.stalls.took_s(started) <= 1.0
        await asyncio.sleep(0.1)
    assert [await pod.status("/readiness") for pod in cluster.pods] == [503, 503, 503]


async def _pods(cluster: PodCluster) -> set[tuple[str, bool]]:
    """The incarnations that are listed, and whether they are believed to be dead."""
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT pod_id, dead FROM session.pods")
    finally:
        await connection.close()
    return {(row["pod_id"], row["dead"]) for row in rows}


async def _nothing_acknowledged_is_lost(cluster: PodCluster, load: RestLoad) -> None:
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT session_id, user_id FROM session.active_sessions")
    finally:
        await connection.close()
    assert load.acknowledged
    assert set(load.acknowledged) <= {(row["session_id"], row["user_id"]) for row in rows}
