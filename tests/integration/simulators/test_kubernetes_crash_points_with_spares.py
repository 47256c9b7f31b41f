"""As test_kubernetes_crash_points.py, where a spare is kept."""

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
@pytest.mark.parametrize("name", ["refill", "start with a spare", "start with a spare that died"])
async def test_whatever_happens_at_any_request_no_spare_is_left_over_or_missing(
    cluster: Cluster, database: Database, host: WorkloadHost, tmp_path: Path, name: str
) -> None:
    async with (
        connected_client(cluster, tmp_path) as client,
        installation(database, ClusterHost(cluster, client, host, database), SIMULATOR_WARM_POOL_SIZE="1") as here,
        here.pod() as survivor,
    ):
        await meet_at_every_call(here, survivor, name, fewest_calls=2)
