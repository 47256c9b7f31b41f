"""What one pod does for the table of sandboxes: the guard, retention, the gauges."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from session_service import config
from session_service.database.postgres import COMMAND_TIMEOUT_S, Postgres
from session_service.database.sandbox_upkeep import SandboxUpkeepRepository
from session_service.database.sql_files import load_queries
from session_service.sandboxes.upkeep import SandboxUpkeep
from session_service.telemetry.metrics import Metrics
from tests.support.cluster_template import SANDBOX_PASSWORD
from tests.support.sandboxes import Sandboxes, put
from tests.support.service import Service
from tests.support.waiting import eventually


@pytest.fixture
async def repository(sandboxes: Sandboxes) -> AsyncIterator[SandboxUpkeepRepository]:
    """As the service's role."""
    postgres = Postgres(config.load(sandboxes.database.environ()).settings.database, Metrics())
    await postgres.open()
    yield SandboxUpkeepRepository(postgres, load_queries())
    await postgres.close()


async def test_old_completed_sessions_are_deleted_batch_by_batch(
    sandboxes: Sandboxes, repository: SandboxUpkeepRepository
) -> None:
    owner = await sandboxes.owner()
    for status, days, count in (("completed", 31, 450), ("completed", 29, 3), ("failed", 31, 3), (None, 31, 3)):
        await owner.execute(
            "INSERT INTO session (inbox_status, created_at)"
            " SELECT $1, now() - make_interval(days => $2) FROM generate_series(1, $3)",
            status,
            days,
            count,
        )
    metrics = Metrics()
    await SandboxUpkeep(repository, metrics, retention_days=30).retain()
    assert await owner.fetchval("SELECT count(*) FROM session") == 9
    assert metrics.registry.get_sample_value("session_sandbox_sessions_deleted_total") == 450


async def test_sessions_that_take_long_to_delete_are_deleted_in_smaller_batches(
    sandboxes: Sandboxes, repository: SandboxUpkeepRepository
) -> None:
    """As those do that have many children. All in one batch they would take longer than a statement may."""
    owner = await sandboxes.owner()
    sessions = int(COMMAND_TIMEOUT_S / 0.02 * 1.2)
    await owner.execute(
        "INSERT INTO session (inbox_status, created_at) SELECT 'completed', '2020-01-01' FROM generate_series(1, $1)",
        sessions,
    )
    await owner.execute(
        "CREATE FUNCTION public.take_long() RETURNS TRIGGER LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END'"
    )
    await owner.execute(
        "CREATE TRIGGER take_long AFTER DELETE ON session FOR EACH ROW EXECUTE FUNCTION public.take_long()"
    )
    metrics = Metrics()
    await SandboxUpkeep(repository, metrics, retention_days=30).retain()
    assert await owner.fetchval("SELECT count(*) FROM session") == 0
    assert metrics.registry.get_sample_value("session_sandbox_sessions_deleted_total") == sessions


async def test_by_default_nothing_is_deleted(sandboxes: Sandboxes, repository: SandboxUpkeepRepository) -> None:
    owner = await sandboxes.owner()
    await put(owner, status="completed")
    await owner.execute("UPDATE session SET created_at = now() - interval '9 years'")
    await SandboxUpkeep(repository, Metrics(), retention_days=0).retain()
    assert await owner.fetchval("SELECT count(*) FROM session") == 1


async def test_what_the_guard_did_is_counted(sandboxes: Sandboxes, repository: SandboxUpkeepRepository) -> None:
    await (await sandboxes.own("misbehaved")).execute("ALTER ROLE CURRENT_USER SET statement_timeout = 0")
    shared = await sandboxes.shared()
    metrics = Metrics()
    upkeep = SandboxUpkeep(repository, metrics, retention_days=0)
    await upkeep.guard()
    assert metrics.registry.get_sample_value("session_sandbox_guard_total", {"action": "put_back"}) == 1
    await shared.execute("BEGIN")
    await shared.execute("SELECT 1 FROM session")
    assert (await repository.guard(0.0)).ended == 1
    assert (await repository.guard(120.0)).ended == 0
    await upkeep.guard()
    assert metrics.registry.get_sample_value("session_sandbox_guard_total", {"action": "put_back"}) == 1


async def test_the_gauges(sandboxes: Sandboxes, repository: SandboxUpkeepRepository) -> None:
    shared = await sandboxes.shared()
    await sandboxes.own("one")
    await sandboxes.own("two")
    metrics = Metrics()
    upkeep = SandboxUpkeep(repository, metrics, retention_days=0)
    value = metrics.registry.get_sample_value
    await upkeep.measure()
    assert value("session_sandbox_oldest_pending_seconds") == 0
    assert value("session_sandbox_sessions", {"status": "pending"}) == 0
    first = await put(shared)
    await shared.execute("UPDATE session SET created_at = now() - interval '1 hour' WHERE id = $1", first)
    for status in ("pending", "processing", None):
        await put(shared, status=status)
    await upkeep.measure()
    assert {
        status: value("session_sandbox_sessions", {"status": status})
        for status in ("pending", "processing", "completed", "failed", "none")
    } == {"pending": 2, "processing": 1, "completed": 0, "failed": 0, "none": 1}
    assert (value("session_sandbox_oldest_pending_seconds") or 0) >= 3600
    assert (value("session_sandbox_database_bytes") or 0) > (value("session_sandbox_table_bytes") or 0) > 0
    assert value("session_sandbox_connections", {"role": "sessionuser"}) == 1
    assert value("session_sandbox_connections", {"role": "sandbox"}) == 2
    assert (value("session_sandbox_connections", {"role": "service"}) or 0) >= 1
    upkeep.forget()
    assert value("session_sandbox_sessions", {"status": "pending"}) is None
    assert value("session_sandbox_table_bytes") == 0


async def test_a_pod_makes_these_rounds(service: Service, sandboxes: Sandboxes) -> None:
    """The pod with the sweeper's lease: a role that changed its own limits has them put back soon."""
    shared = await sandboxes.shared()
    await shared.execute("ALTER ROLE sessionuser SET statement_timeout = 0")
    value = service.server.metrics.registry.get_sample_value

    async def measured() -> bool:
        return bool(value("session_sandbox_table_bytes"))

    await eventually(measured, within_s=40, what="the gauges")

    async def put_back() -> bool:
        connection = await asyncpg.connect(sandboxes.dsn_of("sessionuser", SANDBOX_PASSWORD))
        try:
            return bool(await connection.fetchval("SHOW statement_timeout") == "30s")
        finally:
            await connection.close()

    await eventually(put_back, within_s=30, what="the limits as they were")
