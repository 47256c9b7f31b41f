"""A mishap at every request that a pod makes of the Kubernetes API: objects, Pods and rows agree in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster_host import ClusterHost
from tests.support.crash_points import meet_at_every_call
from tests.support.fake_kubernetes.cluster import Cluster
from tests.support.installation import installation
from tests.support.kubernetes_parts import connected_client
from tests.support.servers import Database
from tests.support.workload_host import WorkloadHost


@pytest.mark.slow
@pytest.mark.parametrize("name", ["create", "stop", "start over stopping", "end of the session"])
async def test_whatever_happens_at_any_request_everything_comes_to_rest(
    cluster: Cluster, database: Database, host: WorkloadHost, tmp_path: Path, name: str
) -> None:
    async with (
        connected_client(cluster, tmp_path) as client,
        installation(database, ClusterHost(cluster, client, host, database)) as here,
        here.pod() as survivor,
    ):
        await meet_at_every_call(here, survivor, name, fewest_calls=2, is_clean=cluster.is_empty)
