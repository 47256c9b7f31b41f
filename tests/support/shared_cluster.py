"""A cluster whose Pods are real exchanges, which pods of the service find by the names of their Services."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from yarl import URL

from tests.support.certificates import serving_tls
from tests.support.fake_kubernetes.cluster import DNS, NAMESPACE, TOKEN, Cluster, fake_cluster
from tests.support.fake_kubernetes.kubelet import ProcessContainers
from tests.support.fake_kubernetes.network import Node, ServiceNetwork

STARTS_AT_ONCE = 4  # Pods: what a small machine does not stall under


class SharedCluster:
    """Implements Workloads. A pod that is started through ``launcher`` finds everything as in a cluster."""

    def __init__(self, cluster: Cluster, network: ServiceNetwork, node: Node, containers: ProcessContainers) -> None:
        self.cluster = cluster
        self.network = network
        self.containers = containers
        self.launcher: Sequence[str] = node.launcher
        self.environ: Mapping[str, str] = {
            "SIMULATOR_BACKEND": "kubernetes",
            "SIMULATOR_IMAGE": "registry.example/session-service:1",
            "KUBERNETES_NAMESPACE": NAMESPACE,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(URL(cluster.api.url).port),
        }

    async def simulator_ids(self) -> set[str]:
        return {
            found["metadata"]["labels"]["simulator_id"]
            for found in self.cluster.deployments().values()
            if "deletionTimestamp" not in found["metadata"]
        }


@contextlib.asynccontextmanager
async def shared_cluster(directory: Path, **environ: str) -> AsyncIterator[SharedCluster]:
    """A cluster whose containers have these variables beside their own. It ends, with them, at the block's end."""
    service_account = directory / "service-account"
    service_account.mkdir(parents=True)
    (service_account / "token").write_text(TOKEN, encoding="utf-8")
    network = ServiceNetwork(directory / "hosts", DNS)
    containers = ProcessContainers(network=network, environ=environ, starts_at_once=STARTS_AT_ONCE)
    async with contextlib.AsyncExitStack() as exits:
        exits.push_async_callback(containers.stop_all)
        cluster = await exits.enter_async_context(
            fake_cluster(containers=containers, network=network, tls=serving_tls(service_account))
        )
        yield SharedCluster(cluster, network, Node(network, service_account), containers)
