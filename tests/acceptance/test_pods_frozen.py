"""An owner is frozen, others take over, it thaws: nothing that it still meant to write is accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.measured import Measured
from tests.support.metrics_reader import metric_total
from tests.support.ownership_audit import OwnershipAudit
from tests.support.pod_cluster import PODS, PodCluster
from tests.support.servers import Database, TestServers
from tests.support.streaming_client import StreamingClient
from tests.support.waiting import eventually
from tests.support.workloads import SharedRunner, shared_runner

SERVES_AGAIN_WITHIN_S = 5.0
FRAMES_WITHIN_S = 30.0
RUNNING = ("idle", "restarted", "streaming")  # users whose simulators run when it is frozen
STARTING = ("starting-1", "starting-2", "starting-3")  # and whose are being made


@pytest.fixture
async def audit(database: Database) -> OwnershipAudit:
    made = OwnershipAudit(database, PODS)
    await made.install()
    return made


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[SharedRunner]:
    async with shared_runner(tmp_path) as started:
        yield started


@pytest.fixture
async def cluster(
    servers: TestServers,
    database: Database,
    runner: SharedRunner,
    tmp_path: Path,
    times: FaultTimes,
    audit: OwnershipAudit,
) -> AsyncIterator[PodCluster]:
    environ = {**servers.redis_environ(), **times.environ(), "SIMULATOR_HEARTBEAT_INTERVAL": "0.5"}
    async with PodCluster(tmp_path, database, runner, environ, environ_of=audit.environ_of) as started:
        yield started


async def test_an_owner_that_thaws_writes_nothing_stale(
    cluster: PodCluster,
    runner: SharedRunner,
    audit: OwnershipAudit,
    times: FaultTimes,
    outage_s: float,
    measured: Measured,
) -> None:
    frozen, other = cluster[2], cluster[1]
    simulators: dict[str, str] = {}
    for user in RUNNING:
        api = cluster.api(user, frozen)
        simulators[user] = await api.start_simulator(await api.open_session())
    sessions = {user: await cluster.api(user, frozen).open_session() for user in STARTING}
    async with AsyncExitStack() as exits:
        # One comes back to the pod where it was, the other to whichever serves.
        true = await exits.enter_async_context(StreamingClient(cluster, "streaming", url=frozen.url))
        free = await exits.enter_async_context(StreamingClient(cluster, "idle"))
        for client in (true, free):
            await client.has_frames(3, within_s=FRAMES_WITHIN_S)
        with ExitStack() as ice:
            # It is frozen in the middle of a step of each of these: the runner's answer is what it wakes to.
            ice.enter_context(runner.frozen())
            calls = runner.calls_of(frozen.pid)
            for user, session_id in sessions.items():
                started = await cluster.api(user, frozen).call(
                    "POST", "/api/simulators", json={"sessionId": session_id}
                )
                assert started[0] == 202, started
                simulators[user] = started[1]["simulatorId"]

            async def asks_the_runner() -> bool:
                return runner.calls_of(frozen.pid) >= calls + len(STARTING) - 1

            await eventually(asks_the_runner, within_s=20, what="calls to the runner that wait")
            frozen_at = time.monotonic()
            with frozen.frozen():
                taken_over_s = await _taken_over(audit, set(sessions.values()), since=frozen_at)
                # The others do what it knows nothing of.
                api = cluster.api("restarted", other)
                assert (await api.call("DELETE", f"/api/simulators/{simulators['restarted']}"))[0] == 200
                status, body = await api.call("POST", "/api/simulators", json={})
                assert status == 202, body
                simulators["restarted"] = body["simulatorId"]
                await asyncio.sleep(max(0.0, frozen_at + outage_s - time.monotonic()))
                claims = await audit.claims()
            thawed_at = time.monotonic()
        await frozen.is_ready(within_s=SERVES_AGAIN_WITHIN_S)
        ready_s = cluster.stalls.took_s(thawed_at)
        await true.has_frames(5, within_s=FRAMES_WITHIN_S)
        streams_s = cluster.stalls.took_s(thawed_at)
        await free.has_frames(5, within_s=FRAMES_WITHIN_S)
        for user, simulator_id in simulators.items():
            await cluster.api(user, other).simulator_is(simulator_id, "RUNNING", within_s=60)
        # It is a pod like the others again: sessions, sockets, simulators, and what it is to look after.
        new = cluster.api("new", frozen)
        await new.start_simulator(await new.open_session())
        async with StreamingClient(cluster, "new", url=frozen.url) as again:
            await again.has_frames(3, within_s=FRAMES_WITHIN_S)

        async def takes_part() -> bool:
            later = (await audit.claims())[len(claims) :]
            return any(claim.became is not None and claim.became.startswith(f"{frozen.name}#") for claim in later)

        await eventually(takes_part, within_s=2 * times.settled_within_s, what="a claim of the thawed pod")
        await check_cluster_invariants(cluster, within_s=2 * times.settled_within_s)
        stale, wrong = await audit.stale_steps(), await audit.wrong_claims()
        measured.row(
            f"SIGSTOP of an owner for {outage_s:g} s, then SIGCONT",
            stale_writes_accepted=len(stale) + len(wrong),
            refused=await metric_total(frozen, "session_stale_writes_refused_total"),
            taken_over_s=round(taken_over_s, 2),
            ready_again_s=round(ready_s, 2),
            streams_again_s=round(streams_s, 2),
        )
        assert streams_s <= 2 * SERVES_AGAIN_WITHIN_S
        assert stale == []
        assert wrong == []
        assert await audit.steps() > len(simulators), "the audit saw nothing"
        assert (true.gaps, true.duplicates, free.gaps, free.duplicates) == (0, 0, 0, 0)


async def _taken_over(audit: OwnershipAudit, session_ids: set[str], *, since: float) -> float:
    """Wait until all of them were claimed by another pod; how long that took, in seconds."""

    async def all_claimed() -> bool:
        claims = await audit.claims()
        return {
            claim.session_id for claim in claims if claim.was is not None and claim.became is not None
        } >= session_ids

    await eventually(all_claimed, within_s=60, what="the frozen pod's sessions owned by others")
    return time.monotonic() - since
