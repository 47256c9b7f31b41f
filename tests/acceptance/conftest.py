"""Pods as processes on servers of the test's own, which it may freeze, kill and restart."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster_template import ClusterTemplate
from tests.support.fault_times import FaultTimes
from tests.support.measured import Measured
from tests.support.servers import Database, TestServers

OUTAGE_S = 60.0  # the fault table's; FAULT_SCALE=1 makes it so long
SHORTEST_OUTAGE_S = 3.0


@pytest.fixture(scope="session")
def times() -> FaultTimes:
    """In `make faults` those of the table and the defaults, in `make test` the shortest that tell."""
    return FaultTimes(float(os.environ.get("FAULT_SCALE", "0.05")))


@pytest.fixture
def outage_s(times: FaultTimes) -> float:
    """How long a fault lasts."""
    return max(SHORTEST_OUTAGE_S, OUTAGE_S * times.scale)


@pytest.fixture
async def own_servers(tmp_path: Path, cluster_template: ClusterTemplate) -> AsyncIterator[TestServers]:
    servers = TestServers(tmp_path / "servers", cluster_template)
    await servers.start()
    yield servers
    await servers.stop()


@pytest.fixture
async def own_database(own_servers: TestServers) -> Database:
    return await own_servers.create_database()


@pytest.fixture
def measured() -> Measured:
    return Measured()
