"""The service's side of a cluster, for tests of its parts: a client, and a backend whose watch is followed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from session_service.aiokit.backoff import Backoff
from session_service.clients.kubernetes import KubernetesClient
from session_service.clients.kubernetes_access import load_access
from session_service.clients.kubernetes_watch import WatchTimes
from session_service.simulators.backend import Workload, WorkloadSpec
from session_service.simulators.kubernetes_backend import KubernetesBackend
from session_service.telemetry.metrics import Metrics
from tests.support.fake_kubernetes.cluster import NAMESPACE, TOKEN, Cluster
from tests.support.waiting import eventually

DATABASE = "4d8d1c9e-7a4b-4a8f-9d3a-bbbbbbbbbbbb"
SESSION = "5a1c9f5e-1b9e-4ad4-8f8c-aaaaaaaaaaaa"
SOON_S = 20.0
TIMES = WatchTimes(watch_s=20.0, silence_limit_s=2.0, backoff=Backoff(first_s=0.02, max_s=0.2, jitter=0.0))


def spec(simulator_id: str, *, user_id: str = "user-1", database_id: str = DATABASE) -> WorkloadSpec:
    return WorkloadSpec(simulator_id, SESSION, user_id, ("AAPL",), 1000.0, f"token-of-{simulator_id}", database_id)


@contextlib.asynccontextmanager
async def connected_client(
    cluster: Cluster, directory: Path, *, token: str = TOKEN, metrics: Metrics | None = None
) -> AsyncIterator[KubernetesClient]:
    environ = {"KUBECONFIG": str(cluster.kubeconfig(directory / "kubeconfig", token=token))}
    client = KubernetesClient(
        NAMESPACE,
        load_access=lambda: load_access(environ),
        metrics=metrics or Metrics(),
        clock=asyncio.get_running_loop().time,
    )
    await client.start()
    try:
        yield client
    finally:
        await client.close()


class FollowedBackend:
    """``told``: what ``changes`` has told, in order."""

    def __init__(self, backend: KubernetesBackend, metrics: Metrics) -> None:
        self.backend = backend
        self.metrics = metrics
        self.told: list[Workload] = []

    async def follow(self) -> None:
        async for workload in self.backend.changes():
            self.told.append(workload)

    async def told_of(self, simulator_id: str, phase: str, reason: str | None = None) -> Workload:
        """Wait until this is the last that was told of it."""

        async def last() -> Workload | None:
            found = next((one for one in reversed(self.told) if one.simulator_id == simulator_id), None)
            return found if found is not None and (found.phase, found.reason) == (phase, reason) else None

        found = await eventually(last, within_s=SOON_S, what=f"{simulator_id} is {phase} {reason}")
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def followed_backend(
    cluster: Cluster,
    directory: Path,
    *,
    times: WatchTimes = TIMES,
    departure_wait_s: float = 5.0,
    database_id: str = DATABASE,
) -> AsyncIterator[FollowedBackend]:
    """A backend of one database whose watches are up."""
    metrics = Metrics()

    async def of_the_database() -> str:
        return database_id

    async with connected_client(cluster, directory, metrics=metrics) as client:
        followed = FollowedBackend(
            KubernetesBackend(
                client,
                image="registry.example/simulator:1",
                database_id=of_the_database,
                metrics=metrics,
                watch=times,
                departure_wait_s=departure_wait_s,
            ),
            metrics,
        )
        before = dict(cluster.api.watching)
        following = asyncio.create_task(followed.follow())

        async def watching() -> bool:
            if following.done():
                following.result()
            now = cluster.api.watching
            return all(now[plural] > before[plural] for plural in ("deployments", "pods"))

        try:
            await eventually(watching, within_s=SOON_S, what="both watches are up")
            yield followed
        finally:
            following.cancel()
            await asyncio.wait([following])
            if not following.cancelled():
                following.result()
