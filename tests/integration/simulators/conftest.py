"""A pod with real simulator processes and a connection to its database; or an installation on a shared platform."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest

from tests.support.api_client import ApiClient
from tests.support.cluster_host import ExchangeContainers
from tests.support.fake_kubernetes.cluster import Cluster, fake_cluster
from tests.support.installation import Installation, installation, running_simulator
from tests.support.invariants import check_invariants
from tests.support.servers import Database, TestServers
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.workload_host import WorkloadHost, hosting


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    """The owner's connection. After the test the invariants are checked over it."""
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()
    await check_invariants(database.owner_dsn)


@pytest.fixture
def api(service: Service) -> ApiClient:
    return ApiClient(service.http)


@pytest.fixture
async def host() -> AsyncIterator[WorkloadHost]:
    async with hosting() as made:
        yield made


@pytest.fixture
async def here(database: Database, host: WorkloadHost) -> AsyncIterator[Installation]:
    async with installation(database, host) as made:
        yield made


@pytest.fixture
async def cluster(host: WorkloadHost, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """Its Pods are simulators of ``host``, reached under the names of their Services."""
    async with fake_cluster(containers=ExchangeContainers(host)) as made:
        real = grpc.aio.insecure_channel
        monkeypatch.setattr(
            grpc.aio, "insecure_channel", lambda target, **options: real(made.resolve(target), **options)
        )
        yield made


@pytest.fixture
async def neighbour(servers: TestServers, host: WorkloadHost) -> AsyncIterator[Installation]:
    """A second installation on the same host, with a pod that runs a simulator: nothing of it may be touched."""
    database = await servers.create_database()
    async with installation(database, host) as beside, beside.pod() as pod:
        simulator = await running_simulator(pod, await pod.open_session("user-1"), "user-1")
        workloads, states = host.workloads(beside.label), host.states(beside.label)
        assert list(states) == [simulator.simulator_id]
        yield beside
        await beside.brought_to_rest_by(pod)
        assert (host.workloads(beside.label), host.states(beside.label)) == (workloads, states)
        assert await beside.newest(simulator.session_id) == ("RUNNING", None)
    await servers.drop_database(database)
