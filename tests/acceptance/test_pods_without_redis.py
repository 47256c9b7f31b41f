"""Redis killed, frozen, flushed, thawed with old contents: three pods answer as ever, and never with what is old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.load import RestLoad, percentile
from tests.support.measured import Measured
from tests.support.pod_cluster import PodCluster
from tests.support.process_faults import frozen, kill
from tests.support.servers import Database, TestServers
from tests.support.streaming_client import streaming_clients
from tests.support.workloads import shared_exchange

SLOWER_BY_S = 0.05
BASE_S = 1.5  # of undisturbed load, to compare with
LONGEST_STREAM_GAP_S = 1.5


@pytest.fixture
async def cluster(
    own_servers: TestServers, own_database: Database, tmp_path: Path, times: FaultTimes
) -> AsyncIterator[PodCluster]:
    environ = {**own_servers.redis_environ(), **times.environ()}
    async with (
        shared_exchange(tmp_path) as exchange,
        PodCluster(tmp_path, own_database, exchange, environ) as started,
    ):
        yield started


class StaleAnswers:
    """Looks for an answer of one pod that is older than what another has acknowledged."""

    def __init__(self, cluster: PodCluster) -> None:
        self.found: list[str] = []
        self.asked = 0
        self._cluster = cluster

    async def look(self, user: str) -> None:
        """Each pod in turn ends the session and makes another; all of them know it when that is answered."""
        apis = [self._cluster.api(user, pod) for pod in self._cluster.pods]
        session_id = await apis[0].open_session()
        for api in apis:
            assert (await api.call("DELETE", f"/api/sessions/{session_id}"))[0] == 200
            for other in apis:
                self._expect(404, (await other.call("GET", f"/api/sessions/{session_id}"))[0], "an ended session")
            new = await api.open_session()
            for other in apis:
                self._expect(new, await other.open_session(), "the session of the device")
                self._expect(200, (await other.call("GET", f"/api/sessions/{new}"))[0], "a new session")
            session_id = new

    def _expect(self, wanted: object, got: object, what: str) -> None:
        self.asked += 1
        if wanted != got:
            self.found.append(f"{what}: {got} instead of {wanted}")


async def test_redis(
    own_servers: TestServers, cluster: PodCluster, times: FaultTimes, outage_s: float, measured: Measured
) -> None:
    valkey = own_servers.valkey
    async with AsyncExitStack() as exits:
        clients = await streaming_clients(exits, cluster, ["alice", "bob", "carol"])
        for fault in ("frozen", "killed", "flushed"):
            stale = StaleAnswers(cluster)
            for client in clients:
                client.longest_gap_s = 0.0
            async with RestLoad(cluster.http) as load:
                await load.recovered(within_s=5)
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
                await stale.look("afterwards")
            longest_gap_s = max(client.longest_gap_s for client in clients)
            base = percentile(load.since(base_at, broken_at), 0.99)
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
            assert [len(client.pods) for client in clients] == [1, 1, 1]
            assert longest_gap_s <= LONGEST_STREAM_GAP_S
    await check_cluster_invariants(cluster, within_s=times.settled_within_s)


async def _asked_all_the_while(cluster: PodCluster, stale: StaleAnswers, for_s: float) -> None:
    until = time.monotonic() + for_s
    turn = 0
    while time.monotonic() < until:
        assert [await pod.status("/readiness") for pod in cluster.pods] == [200, 200, 200]
        await stale.look(f"user-{turn % 3}")
        turn += 1
        await asyncio.sleep(0.1)
