"""Probes: what readiness depends on, and that it answers in time whatever hangs."""

from __future__ import annotations

import asyncio

import pytest

from session_service.api.health import CACHE_S, CHECK_LIMIT_S, HealthState
from session_service.errors import DatabaseUnavailableError


class Dependency:
    """A dependency that can be up, down or frozen, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.down = False
        self.frozen = False

    async def check(self) -> None:
        self.calls += 1
        if self.frozen:
            await asyncio.Event().wait()
        if self.down:
            raise DatabaseUnavailableError


@pytest.fixture
def database() -> Dependency:
    return Dependency()


@pytest.fixture
def redis() -> Dependency:
    return Dependency()


@pytest.fixture
def health(database: Dependency, redis: Dependency) -> HealthState:
    return HealthState("pod-1", required={"database": database.check}, informative={"redis": redis.check})


async def test_liveness_depends_on_nothing(health: HealthState, database: Dependency) -> None:
    database.down = True
    health.drain()
    live = health.liveness()
    assert (live.status, live.pod) == ("UP", "pod-1")
    assert database.calls == 0


async def test_not_ready_before_it_has_started(health: HealthState) -> None:
    assert (await health.readiness()).status == "NOT_READY"
    health.started()
    assert (await health.readiness()).status == "READY"


async def test_not_ready_while_draining(health: HealthState) -> None:
    health.started()
    health.drain()
    readiness = await health.readiness()
    assert readiness.status == "NOT_READY"
    assert readiness.checks == {"pod": "DRAINING", "database": "UP", "redis": "UP"}


async def test_the_database_decides(health: HealthState, database: Dependency) -> None:
    health.started()
    database.down = True
    readiness = await health.readiness()
    assert (readiness.status, readiness.checks["database"]) == ("NOT_READY", "DOWN")


async def test_redis_is_shown_and_decides_nothing(health: HealthState, redis: Dependency) -> None:
    health.started()
    redis.down = True
    readiness = await health.readiness()
    assert (readiness.status, readiness.checks) == ("READY", {"pod": "UP", "database": "UP", "redis": "DOWN"})


@pytest.mark.looptime
async def test_a_frozen_dependency_costs_no_more_than_the_limit(
    health: HealthState, database: Dependency, redis: Dependency
) -> None:
    health.started()
    database.frozen = redis.frozen = True
    loop = asyncio.get_running_loop()
    started = loop.time()
    readiness = await health.readiness()
    assert loop.time() - started == pytest.approx(CHECK_LIMIT_S)
    assert readiness.checks == {"pod": "UP", "database": "DOWN", "redis": "DOWN"}


@pytest.mark.looptime
async def test_probes_share_one_round(health: HealthState, database: Dependency) -> None:
    database.frozen = True
    await asyncio.gather(*(health.readiness() for _ in range(50)))
    assert database.calls == 1


@pytest.mark.looptime
async def test_a_result_is_used_for_a_moment_only(health: HealthState, database: Dependency) -> None:
    health.started()
    assert (await health.readiness()).status == "READY"
    database.down = True
    assert (await health.readiness()).status == "READY"
    await asyncio.sleep(CACHE_S)
    assert (await health.readiness()).status == "NOT_READY"
    assert database.calls == 2


@pytest.mark.looptime
async def test_a_probe_that_gives_up_disturbs_no_other(health: HealthState, database: Dependency) -> None:
    database.frozen = True
    impatient = asyncio.create_task(health.readiness())
    patient = asyncio.create_task(health.readiness())
    await asyncio.sleep(CHECK_LIMIT_S / 2)
    impatient.cancel()
    assert (await patient).checks["database"] == "DOWN"
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_close_ends_a_round_under_way(health: HealthState, database: Dependency) -> None:
    database.frozen = True
    probe = asyncio.create_task(health.readiness())
    await asyncio.sleep(0)
    await health.close()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await health.close()
