"""A mishap at every request that a pod makes of the Kubernetes API: objects, Pods and rows agree in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from tests.support.cluster_host import ClusterHost, ExchangeContainers
from tests.support.crash_points import meet
from tests.support.fake_kubernetes.cluster import Cluster, fake_cluster
from tests.support.installation import InstallationOn, installation
from tests.support.kubernetes_parts import connected_client
from tests.support.mishaps import Mishap
from tests.support.servers import Database
from tests.support.workload_host import WorkloadHost

MORE_REQUESTS_THAN_ANY_OPERATION_MAKES = 100


@pytest.fixture
async def cluster(host: WorkloadHost, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    async with fake_cluster(containers=ExchangeContainers(host)) as made:
        real = grpc.aio.insecure_channel
        monkeypatch.setattr(
            grpc.aio, "insecure_channel", lambda target, **options: real(made.resolve(target), **options)
        )
        yield made


@pytest.fixture
async def here(
    cluster: Cluster, database: Database, host: WorkloadHost, tmp_path: Path
) -> AsyncIterator[InstallationOn[ClusterHost]]:
    async with (
        connected_client(cluster, tmp_path) as client,
        installation(database, ClusterHost(cluster, client, host, database)) as made,
    ):
        yield made


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
        for mishap in Mishap:
            for number in range(1, MORE_REQUESTS_THAN_ANY_OPERATION_MAKES):
                if not await meet(here, survivor, name, mishap, number):
                    assert number > 2, "the mishap has to meet the operation"
                    break


@pytest.mark.slow
@pytest.mark.parametrize("name", ["create", "stop", "start over stopping", "end of the session"])
async def test_whatever_happens_at_any_request_everything_comes_to_rest(
    here: InstallationOn[ClusterHost], cluster: Cluster, name: str
) -> None:
    async with here.pod() as survivor:
        for mishap in Mishap:
            for number in range(1, MORE_REQUESTS_THAN_ANY_OPERATION_MAKES):
                if not await meet(here, survivor, name, mishap, number):
                    assert number > 2, "the mishap has to meet the operation"
                    break
                assert cluster.is_empty()
