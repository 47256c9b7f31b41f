"""A trial of pods on a cluster's API: simulators created, adopted after a pod's kill -9, removed, and nothing left.

``python -m scripts.kubernetes_trial [--simulators 100] [--into docs/kubernetes-trial.md]``

Exit codes: 0 everything was as required; 1 something was not; 2 this machine cannot run it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import asyncpg
import msgspec

from scripts.transcript import Transcript
from tests.support.census import Census, Owners
from tests.support.cluster_template import ClusterTemplate
from tests.support.fake_kubernetes.network import why_no_node
from tests.support.invariants import check_cluster_invariants, violations
from tests.support.metrics_reader import metric_total
from tests.support.pod_cluster import PodCluster
from tests.support.pod_process import PodProcess
from tests.support.servers import Database, TestServers
from tests.support.shared_cluster import SharedCluster, shared_cluster
from tests.support.streaming_client import StreamingClient, p99
from tests.support.waiting import eventually

SIMULATORS = 100
UPDATE_INTERVAL_MS = "500"
SESSION_TIMEOUT_S = 45  # short, so that the end of those whose clients never come back is seen
STARTED_WITHIN_S = 180.0
SETTLED_WITHIN_S = 60.0
REMOVED_WITHIN_S = 120.0
PROGRESS_EVERY_S = 5.0
ORDERS_AT_ONCE = 10
T = TypeVar("T")

REFUSALS = {400, 401, 403, 422}


class User(msgspec.Struct, frozen=True):
    """One of the trial's users, with a session, its simulator, and a client that follows it."""

    user_id: str
    session_id: str
    simulator_id: str
    client: StreamingClient


class Trial:
    """The steps, in the order of ``run``; each says what it does and finds."""

    def __init__(
        self,
        transcript: Transcript,
        kubernetes: SharedCluster,
        cluster: PodCluster,
        database: Database,
        simulators: int,
    ) -> None:
        self._transcript = transcript
        self._kubernetes = kubernetes
        self._cluster = cluster
        self._database = database
        self._simulators = simulators
        self._users: list[User] = []

    async def run(self) -> None:
        async with AsyncExitStack() as clients:
            await self._create(clients)
            await self._trade()
            at_first = Census.of(self._kubernetes)
            await self._kill(self._cluster[2])
            await self._nothing_was_made_anew(at_first)
            await self._orders_are_known()
        await self._remove()
        await self._nothing_is_left()
        self._calls()

    async def _create(self, clients: AsyncExitStack) -> None:
        say = self._transcript
        say.does(f"{self._simulators} users: POST /api/sessions and POST /api/simulators, all at once")
        began_s = time.monotonic()
        self._users = list(
            await asyncio.gather(*(self._user(clients, f"user-{number}") for number in range(self._simulators)))
        )
        say.does("every start was answered with 202 and its client is connected")
        progress = asyncio.create_task(self._progress())
        try:
            await asyncio.gather(*(user.client.has_frames(3, within_s=STARTED_WITHIN_S) for user in self._users))
        finally:
            progress.cancel()
        say.does(f"every client has exchange data, {time.monotonic() - began_s:.1f} s after the first request")
        census = Census.of(self._kubernetes)
        say.finds("Deployments", len(census.deployments), required=self._simulators)
        say.finds("Services", len(census.services), required=self._simulators)
        say.finds("Pods", len(census.pods), required=self._simulators)
        say.finds("processes of simulators", len(set(census.processes.values())), required=self._simulators)
        say.finds("sessions by the pod that looks after them", _counted((await self._owners()).sessions_by_pod))
        say.finds("streams by the pod that serves them", _counted(Counter(u.client.pods[-1] for u in self._users)))

    async def _user(self, clients: AsyncExitStack, user_id: str) -> User:
        api = self._cluster.api(user_id)
        session_id = await api.open_session()
        status, body = await api.call("POST", "/api/simulators", json={"sessionId": session_id})
        if status != 202:
            self._transcript.finds("an answer to POST /api/simulators", f"{status} {body}", required=202)
        client = await clients.enter_async_context(StreamingClient(self._cluster, user_id))
        return User(user_id, session_id, body["simulatorId"], client)

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            census = Census.of(self._kubernetes)
            streaming = sum(user.client.frames > 0 for user in self._users)
            self._transcript.does(
                f"Deployments {len(census.deployments)}, Pods {len(census.pods)}, "
                f"processes {len(census.processes)}, clients with exchange data {streaming}"
            )

    async def _trade(self) -> None:
        self._transcript.does("an order at every simulator, so that each has a state that could be lost")
        at_once = asyncio.Semaphore(ORDERS_AT_ONCE)
        statuses = await asyncio.gather(*(self._order(user, at_once) for user in self._users))
        self._transcript.finds("orders by status", _counted(Counter(statuses)))

    async def _order(self, user: User, at_once: asyncio.Semaphore) -> str:
        """Its status. Made again after a 503, which its requestId makes harmless."""
        order = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "orderType": "MARKET", "requestId": "order-1"}
        path = f"/api/simulators/{user.simulator_id}/orders"

        async def answered() -> str:
            async with at_once:
                status, body = await self._cluster.api(user.user_id).call("POST", path, json=order)
            return "" if status == 503 else body.get("status") or str(status)

        return await _eventually(answered, "an order is answered")

    async def _orders_are_known(self) -> None:
        listed = await asyncio.gather(
            *(
                self._cluster.api(user.user_id).call("GET", f"/api/simulators/{user.simulator_id}/orders")
                for user in self._users
            )
        )
        known = sum(status == 200 and len(body["orders"]) == 1 for status, body in listed)
        self._transcript.does("GET /api/simulators/{id}/orders of every simulator, at the pods that are left")
        self._transcript.finds("simulators that know their order", known, required=self._simulators)

    async def _kill(self, victim: PodProcess) -> None:
        say = self._transcript
        before, takeovers_before = await self._owners(), await self._takeovers(victim)
        lost = before.sessions_by_pod[victim.name]
        served = [user for user in self._users if user.client.pods[-1] == victim.name]
        away, hit = served[::2], served[1::2]
        there = [user for user in self._users if user not in away]
        await asyncio.gather(*(user.client.leave() for user in away))
        say.does(f"{len(away)} clients of {victim.name} close: of their sessions nobody will tell another pod")
        for user in there:
            user.client.longest_gap_s = 0.0
        say.does(f"kill -9 of {victim.name}, which looks after {lost} sessions and serves {len(hit)} streams")
        killed_at_s = time.monotonic()
        await victim.kill()

        async def streams_are_back() -> bool:
            return all(user.client.pods[-1] != victim.name for user in hit)

        async def all_are_owned() -> bool:
            living = {pod.name for pod in self._cluster.running}
            return (await self._owners()).sessions_by_pod.keys() <= living

        await _eventually(streams_are_back, "every stream on another pod", within_s=SETTLED_WITHIN_S)
        await asyncio.gather(*(user.client.has_frames(2, within_s=10) for user in there))
        say.does("every stream goes on, those that were hit at another pod")
        await _eventually(all_are_owned, "every session owned again", within_s=SETTLED_WITHIN_S)
        after = await self._owners()
        say.does(f"every session is looked after again, {time.monotonic() - killed_at_s:.1f} s after the kill")
        say.finds("sessions by pod before", _counted(before.sessions_by_pod))
        say.finds("sessions by pod after", _counted(after.sessions_by_pod))
        taken = after.taken_since(before)
        say.finds("sessions whose epoch has risen", taken)
        takeovers = await self._takeovers(victim) - takeovers_before
        say.finds("session_takeovers_total since, at the pods that are left", _counted(takeovers))
        say.finds("sessions of the killed pod that were not taken", max(0, lost - taken), required=0)
        await self._heartbeats_go_on()
        self._streams(hit)

    async def _heartbeats_go_on(self) -> None:
        before = await self._heartbeats()

        async def as_many_as_simulators() -> bool:
            return await self._heartbeats() - before >= self._simulators

        await _eventually(as_many_as_simulators, "heartbeats", within_s=SETTLED_WITHIN_S)
        self._transcript.does(f"since then simulators have answered {await self._heartbeats() - before} heartbeats")

    def _streams(self, hit: Sequence[User]) -> None:
        say, clients = self._transcript, [user.client for user in self._users]
        gaps_s = [user.client.longest_gap_s for user in hit]
        if gaps_s:
            say.finds("longest pause of the streams hit, p50", f"{sorted(gaps_s)[len(gaps_s) // 2]:.2f} s")
            say.finds("longest pause of the streams hit, p99", f"{p99(gaps_s):.2f} s")
        say.finds("numbers that a stream lacks", sum(client.gaps for client in clients), required=0)
        say.finds("numbers that a stream has twice", sum(client.duplicates for client in clients), required=0)
        say.finds("streams that were not resumed", sum(c.client.statistics.not_resumed for c in clients), required=0)
        say.finds("sessions lost", sum(len(client.session_ids) != 1 for client in clients), required=0)

    async def _nothing_was_made_anew(self, at_first: Census) -> None:
        say, now = self._transcript, Census.of(self._kubernetes)
        say.does("the cluster's objects, compared with those before the kill by their uids")
        say.finds("Deployments made anew", len(now.deployments.items() - at_first.deployments.items()), required=0)
        say.finds("Services made anew", len(now.services.items() - at_first.services.items()), required=0)
        say.finds("Pods made anew", len(now.pods.items() - at_first.pods.items()), required=0)
        say.finds("containers restarted", now.restarts, required=0)
        say.finds(
            "processes of simulators that are others",
            len(now.processes.items() ^ at_first.processes.items()),
            required=0,
        )
        await self._cluster.add()
        say.does(f"{self._cluster.pods[-1].name} is ready in the place of the killed one")

    async def _remove(self) -> None:
        say, users = self._transcript, self._users
        stopped, ended, left = users[: len(users) * 2 // 5], users[len(users) * 2 // 5 : len(users) * 4 // 5], []
        left = users[len(stopped) + len(ended) :]
        say.does(
            f"all clients close; {len(stopped)} x DELETE /api/simulators/{{id}}, {len(ended)} x "
            f"DELETE /api/sessions/{{id}}, {len(left)} sessions are left to expire"
        )
        paths = [(user, f"/api/simulators/{user.simulator_id}") for user in stopped]
        paths += [(user, f"/api/sessions/{user.session_id}") for user in ended]
        answers = await asyncio.gather(
            *(self._cluster.api(user.user_id).call("DELETE", path) for user, path in paths)
        )
        say.finds("answers by status", _counted(Counter(str(status) for status, _ in answers)))
        say.finds("deletes that were refused", sum(status != 200 for status, _ in answers), required=0)

        async def only_the_expiring_stand() -> bool:
            return len(Census.of(self._kubernetes).deployments) <= len(left)

        await _eventually(only_the_expiring_stand, "what was deleted is gone")
        say.does(f"Deployments {len(Census.of(self._kubernetes).deployments)}")

    async def _nothing_is_left(self) -> None:
        async def empty() -> bool:
            return Census.of(self._kubernetes).is_empty

        await _eventually(empty, "nothing is left in the cluster")
        await check_cluster_invariants(self._cluster, within_s=SETTLED_WITHIN_S)
        say, census = self._transcript, Census.of(self._kubernetes)
        say.does("left over, asked of the API server, of the machine, of PostgreSQL and of the pods")
        say.finds("Deployments", len(census.deployments), required=0)
        say.finds("Services", len(census.services), required=0)
        say.finds("Pods", len(census.pods), required=0)
        say.finds("processes of simulators", len(census.processes), required=0)
        say.finds("names that resolve", len(census.names), required=0)
        orphans = [await metric_total(pod, "session_orphans_removed_total") for pod in self._cluster.running]
        say.finds("orphans that had to be removed", round(sum(orphans)), required=0)
        say.finds("rows that break an invariant, teardowns that wait", await self._broken_rows(), required=0)

    def _calls(self) -> None:
        say, journal = self._transcript, self._kubernetes.cluster.api.journal
        say.does(f"the API server was called {len(journal)} times, with the rights of k8s/base/access.yaml")
        counted = Counter(f"{call.verb} {call.plural}" for call in journal)
        for call, times in sorted(counted.items()):
            statuses = Counter(str(one.status) for one in journal if f"{one.verb} {one.plural}" == call)
            say.finds(call, f"{times} ({_counted(statuses)})")
        say.finds("calls that it refused", sum(call.status in REFUSALS for call in journal), required=0)

    async def _broken_rows(self) -> int:
        connection = await asyncpg.connect(self._database.owner_dsn)
        try:
            return sum(len(rows) for rows in (await violations(connection)).values())
        finally:
            await connection.close()

    async def _owners(self) -> Owners:
        return await Owners.of(self._database)

    async def _takeovers(self, but: PodProcess) -> Counter[str]:
        """By their cause, at every pod but this one."""
        pods = [pod for pod in self._cluster.running if pod is not but]
        return Counter(
            {
                cause: round(sum([await metric_total(pod, "session_takeovers_total", cause=cause) for pod in pods]))
                for cause in ("dead", "moved")
            }
        )

    async def _heartbeats(self) -> int:
        answered = [
            await metric_total(
                pod,
                "session_external_service_requests_total",
                service="exchange",
                operation="Heartbeat",
                status="ok",
            )
            for pod in self._cluster.running
        ]
        return round(sum(answered))


async def _eventually(check: Callable[[], Awaitable[T]], what: str, *, within_s: float = REMOVED_WITHIN_S) -> T:
    return await eventually(check, within_s=within_s, what=what, every_s=0.25)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {times}" for name, times in sorted(counter.items()))


async def run(transcript: Transcript, simulators: int) -> None:
    with tempfile.TemporaryDirectory(prefix="kubernetes-trial-") as directory:
        folder = Path(directory)
        template = ClusterTemplate(folder)
        await template.make()
        servers = TestServers(folder / "servers", template)
        await servers.start()
        try:
            database = await servers.create_database()
            transcript.does("PostgreSQL and Redis run, the schema is applied")
            environ = {
                **servers.redis_environ(),
                "SESSION_TIMEOUT_SECONDS": str(SESSION_TIMEOUT_S),
                "DRAIN_DELAY_SECONDS": "0",
            }
            async with (
                shared_cluster(folder / "cluster", UPDATE_INTERVAL_MS=UPDATE_INTERVAL_MS) as kubernetes,
                PodCluster(folder, database, kubernetes, environ, launcher=kubernetes.launcher) as cluster,
            ):
                transcript.does(f"{', '.join(pod.name for pod in cluster.pods)} are ready")
                await Trial(transcript, kubernetes, cluster, database, simulators).run()
                for pod in cluster.running:
                    pod.terminate()
                exits_s = [await cluster.has_ended(pod) for pod in cluster.running]
                transcript.does(
                    f"{len(exits_s)} pods have ended in order, the last one {max(exits_s):.1f} s after SIGTERM"
                )
        finally:
            await servers.stop()
            template.remove()


def main() -> int:
    parser = argparse.ArgumentParser(prog="kubernetes_trial", description=__doc__.partition("\n")[0])
    parser.add_argument("--simulators", type=int, default=SIMULATORS)
    parser.add_argument("--into", type=Path, help="the page whose block of text becomes the transcript")
    options = parser.parse_args()
    if (reason := why_no_node()) is not None:
        print(f"this machine cannot run the trial: {reason}", file=sys.stderr)
        return 2
    transcript = Transcript()
    asyncio.run(run(transcript, options.simulators))
    transcript.does("as required" if not transcript.failures else f"NOT as required: {transcript.failures}")
    if options.into is not None:
        transcript.write_into(options.into)
    return 1 if transcript.failures else 0


if __name__ == "__main__":
    sys.exit(main())
