"""A cluster as the host of an installation's workloads: its Pods are exchanges in this process."""

from __future__ import annotations

from typing import cast

import asyncpg

from session_service.clients.kubernetes import KubernetesClient
from session_service.errors import BackendUnavailableError
from session_service.simulators.backend import SimulatorBackend, WorkloadSpec
from session_service.simulators.kubernetes_backend import KubernetesBackend
from session_service.telemetry.metrics import Metrics
from tests.support.fake_kubernetes.cluster import NAMESPACE, Cluster
from tests.support.fake_kubernetes.kubelet import expanded
from tests.support.fake_kubernetes.object_store import FOREGROUND, Key, Manifest
from tests.support.mishaps import OutgoingCalls, Watched
from tests.support.servers import Database
from tests.support.workload_host import WorkloadHost

PODS = "pods"  # the label of what runs in Pods


class ExchangeContainers:
    """Containers that are exchanges behind one gRPC server. Implements Containers."""

    def __init__(self, host: WorkloadHost) -> None:
        self._host = host
        self._simulators: dict[str, str] = {}  # by the Pod's uid

    def __contains__(self, uid: object) -> bool:
        return uid in self._simulators

    def address(self, uid: str) -> str | None:
        return self._host.endpoint if uid in self._simulators else None

    async def start(self, uid: str, container: Manifest) -> None:
        environ = expanded(container["env"])
        self._simulators[uid] = environ["SIMULATOR_ID"]
        self._host.place(
            PODS,
            WorkloadSpec(
                simulator_id=environ["SIMULATOR_ID"],
                session_id=environ.get("SESSION_ID", ""),
                user_id=environ.get("USER_ID", ""),
                initial_symbols=tuple(environ["INITIAL_SYMBOLS"].split(",")),
                initial_cash=float(environ["INITIAL_CASH"]),
                token=environ["SIMULATOR_TOKEN"],
                database_id="",
            ),
        )

    async def stop(self, uid: str) -> None:
        if (simulator_id := self._simulators.pop(uid, None)) is not None:
            self._host.remove(PODS, simulator_id, None)


class ClusterHost:
    """Implements Host. A mishap comes to single requests of the API, between two of which a pod may end."""

    def __init__(self, cluster: Cluster, client: KubernetesClient, host: WorkloadHost, database: Database) -> None:
        self.overlaps = host.overlaps
        self._cluster = cluster
        self._client = client
        self._host = host
        self._database = database

    def calls(self) -> OutgoingCalls:
        return OutgoingCalls({"get", "create", "patch", "delete"})

    def platform(self, label: str, calls: OutgoingCalls) -> SimulatorBackend:
        """Its watches are not followed: what they would have told is found by rounds."""
        watched = Watched(self._client, calls, lambda: BackendUnavailableError("no answer"))
        return KubernetesBackend(
            cast("KubernetesClient", watched),
            image="registry.example/simulator:1",
            database_id=self._database_id,
            metrics=Metrics(),
            departure_wait_s=0.02,
        )

    def workloads(self, label: str) -> dict[str, str]:
        return {
            found["metadata"]["labels"]["simulator_id"]: found["metadata"]["uid"]
            for found in self._cluster.deployments().values()
        }

    def lose(self, simulator_id: str) -> None:
        self._cluster.store.mark_ending(
            Key("deployments", NAMESPACE, f"simulator-{simulator_id}"), finalizer=FOREGROUND
        )

    def states(self, label: str) -> dict[str, int]:
        return self._host.states(PODS)

    async def _database_id(self) -> str:
        """Asked by nobody's mishap: a pod asks once in its life."""
        connection = await asyncpg.connect(self._database.owner_dsn)
        try:
            found: str = await connection.fetchval("SELECT database_id::text FROM session.installation")
        finally:
            await connection.close()
        return found
