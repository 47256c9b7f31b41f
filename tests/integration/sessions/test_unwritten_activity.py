"""Expiry waits for activity that a live pod has not written yet, and for no other (docs/lifecycle.md#sessions)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import asyncpg
import pytest

from session_service.database.sql_files import load_queries
from tests.support.api_client import ApiClient
from tests.support.servers import Database
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

EXPIRE = load_queries()["sessions.expire"]
FLUSH = load_queries()["sessions.flush_activity"]
CLEANUP = load_queries()["sessions.cleanup"]


async def add_pod(sql: Sql, pod_id: str) -> None:
    await sql.execute("INSERT INTO session.pods (pod_id, pod_name, version) VALUES ($1, $1, '1')", pod_id)


async def add_session(sql: Sql, session_id: str, *, expires_in_s: float) -> None:
    await sql.execute(
        "INSERT INTO session.active_sessions (session_id, user_id, device_id, status, expires_at)"
        " VALUES ($1, $1, 'device', 'INACTIVE', clock_timestamp() + make_interval(secs => $2))",
        session_id,
        expires_in_s,
    )
    await sql.execute("INSERT INTO session.session_metadata (session_id) VALUES ($1)", session_id)


async def flush(
    sql: Sql, pod_id: str, answered_at: datetime | None, *, elapsed_s: float = 0.0, **used_s: float
) -> datetime:
    """``used_s``: session id → how long ago it was used."""
    ages = list(used_s.values())
    answer: datetime = await sql.fetchval(
        FLUSH, pod_id, answered_at, elapsed_s, True, [], list(used_s), ages, ages, 3600.0
    )
    return answer


async def flush_twice(sql: Sql, pod_id: str) -> None:
    await flush(sql, pod_id, await flush(sql, pod_id, None))


async def expire(sql: Sql) -> set[str]:
    return {row["session_id"] for row in await sql.fetch(EXPIRE, 1000)}


async def test_with_no_pod_there_the_clock_decides(sql: Sql) -> None:
    await add_session(sql, "over", expires_in_s=-0.001)
    await add_session(sql, "young", expires_in_s=60)
    assert await expire(sql) == {"over"}


async def test_what_ran_out_after_the_last_flush_waits_for_the_next(sql: Sql) -> None:
    await add_pod(sql, "a#1")
    await add_pod(sql, "b#1")
    await add_session(sql, "over", expires_in_s=0)
    await flush_twice(sql, "a#1")
    assert await expire(sql) == set()
    answered_at = await flush(sql, "b#1", None)
    assert await expire(sql) == set(), "what was used before the answer may still be in its memory"
    await flush(sql, "b#1", answered_at)
    assert await expire(sql) == {"over"}


async def test_a_use_in_time_that_is_written_late_saves_the_session(sql: Sql) -> None:
    await add_pod(sql, "a#1")
    await add_pod(sql, "b#1")
    await add_session(sql, "used", expires_in_s=-60)
    await add_session(sql, "idle", expires_in_s=-60)
    await sql.execute("UPDATE session.pods SET flushed_until = now() - interval '300 s' WHERE pod_id = 'b#1'")
    await flush_twice(sql, "a#1")
    assert await expire(sql) == set()
    await flush(sql, "b#1", await flush(sql, "b#1", None), used=90)
    assert await expire(sql) == {"idle"}


async def test_a_use_in_time_counts_however_long_the_call_waited(sql: Sql) -> None:
    """Sent 20 s after the last answer, and then held up for 50 s: what was 10 s ago then was 60 s ago now."""
    await add_pod(sql, "a#1")
    await add_session(sql, "used", expires_in_s=-40)
    await add_session(sql, "late", expires_in_s=-70)
    answered_at = await sql.fetchval("SELECT now() - interval '70 s'")
    await flush(sql, "a#1", answered_at, elapsed_s=20, used=10, late=5)
    await flush_twice(sql, "a#1")
    assert await expire(sql) == {"late"}


async def test_a_dead_pod_holds_nothing_up(sql: Sql) -> None:
    await add_pod(sql, "a#1")
    await add_pod(sql, "b#1")
    await add_session(sql, "over", expires_in_s=0)
    await flush_twice(sql, "a#1")
    assert await expire(sql) == set()
    await sql.execute("UPDATE session.pods SET dead = TRUE WHERE pod_id = 'b#1'")
    assert await expire(sql) == {"over"}


async def test_a_pod_that_is_dead_or_gone_writes_its_activity_all_the_same(sql: Sql) -> None:
    await add_pod(sql, "dead#1")
    await sql.execute("UPDATE session.pods SET dead = TRUE")
    for pod_id in ("dead#1", "gone#1"):
        await add_session(sql, pod_id, expires_in_s=-60)
        await flush(sql, pod_id, await flush(sql, pod_id, None), **{pod_id: 90})
    assert await sql.fetchval("SELECT count(*) FROM session.active_sessions WHERE expires_at > now()") == 2


async def test_a_pod_that_comes_later_holds_up_only_what_runs_out_later(sql: Sql) -> None:
    await add_session(sql, "before", expires_in_s=0)
    await add_pod(sql, "new#1")
    await add_session(sql, "after", expires_in_s=0)
    assert await expire(sql) == {"before"}


async def test_an_instant_ahead_of_the_clock_expires_nothing_early(sql: Sql) -> None:
    """After PostgreSQL's clock was set back."""
    await add_pod(sql, "a#1")
    await sql.execute("UPDATE session.pods SET flushed_until = now() + interval '1 h'")
    await add_session(sql, "young", expires_in_s=60)
    assert await expire(sql) == set()


async def test_cleanup_deletes_only_what_is_marked(sql: Sql) -> None:
    await add_pod(sql, "a#1")
    await add_session(sql, "marked", expires_in_s=-60)
    await sql.execute("UPDATE session.active_sessions SET status = 'EXPIRED'")
    await add_session(sql, "unmarked", expires_in_s=-60)
    assert await sql.fetchval(CLEANUP, 1000) == 1
    assert [row[0] for row in await sql.fetch("SELECT session_id FROM session.active_sessions")] == ["unmarked"]
    assert await sql.fetchval(CLEANUP, 1000) == 0
    assert await sql.fetchval("SELECT session.cleanup_expired_sessions()") == 1, "by hand it waits for nobody"


async def test_cleanup_calls_the_documented_function_where_it_would_delete_no_more(sql: Sql) -> None:
    await sql.execute(
        "CREATE OR REPLACE FUNCTION session.cleanup_expired_sessions() RETURNS INTEGER AS 'SELECT 4711' LANGUAGE sql"
    )
    await add_session(sql, "marked", expires_in_s=-60)
    await sql.execute("UPDATE session.active_sessions SET status = 'EXPIRED'")
    assert await sql.fetchval(CLEANUP, 1000) == 4711


async def test_cleanup_goes_by_batches(sql: Sql) -> None:
    for number in range(5):
        await add_session(sql, f"s{number}", expires_in_s=-60)
    await sql.execute("UPDATE session.active_sessions SET status = 'EXPIRED'")
    assert [await sql.fetchval(CLEANUP, 2) for _ in range(4)] == [2, 2, 1, 0]


async def test_inactivity_waits_for_activity_as_well(sql: Sql) -> None:
    stop = load_queries()["simulators.stop_inactive"]
    await add_session(sql, "s", expires_in_s=600)
    await sql.execute(
        "INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, last_active)"
        " VALUES ('i', 's', 's', 'RUNNING', now() - interval '100 s')"
    )
    await add_pod(sql, "b#1")
    await sql.execute("UPDATE session.pods SET flushed_until = now() - interval '70 s'")
    assert await sql.fetch(stop, 60.0) == []
    await flush(sql, "b#1", await flush(sql, "b#1", None), s=50)
    assert await sql.fetch(stop, 60.0) == []
    await sql.execute("UPDATE simulator.instances SET last_active = now() - interval '100 s'")
    assert len(await sql.fetch(stop, 60.0)) == 1
    await sql.execute("DELETE FROM session.active_sessions")


@pytest.fixture
async def way(database: Database) -> AsyncIterator[TcpProxy]:
    """The way of one of two pods to PostgreSQL."""
    async with TcpProxy(database.port) as proxy:
        yield proxy


async def test_a_pod_cut_off_from_postgres_saves_the_sessions_that_it_serves(
    way: TcpProxy, make_service: Callable[..., Awaitable[Service]], sql: Sql
) -> None:
    """Used on one pod, which cannot write it; run out since; expired by nobody, and extended when it can."""
    await make_service(POD_NAME="pod-1", POD_LEASE_SECONDS="5")
    cut_off = await make_service(POD_NAME="pod-2", POD_LEASE_SECONDS="5", DB_PORT=str(way.port))
    session_id = await ApiClient(cut_off.http).open_session()
    other_id = await ApiClient(cut_off.http, "user-2").open_session()
    way.refuse()
    way.reset()
    cut_off.server._activity.touch(session_id)
    await asyncio.sleep(0.05)
    await sql.execute("UPDATE session.active_sessions SET expires_at = clock_timestamp()")
    cutoff = "SELECT expires_at > session.activity_written_until() FROM session.active_sessions LIMIT 1"
    flushed = "SELECT max(flushed_until) > (SELECT max(expires_at) FROM session.active_sessions) FROM session.pods"

    async def the_other_has_flushed() -> bool:
        return bool(await sql.fetchval(flushed))

    await eventually(the_other_has_flushed, within_s=20, what="a flush of the pod that is not cut off")
    assert await sql.fetchval(cutoff)
    assert await expire(sql) == set()
    await way.accept()

    async def decided() -> bool:
        rows = await sql.fetch("SELECT session_id, status, expires_at > now() FROM session.active_sessions")
        return {tuple(row) for row in rows} == {(session_id, "ACTIVE", True), (other_id, "EXPIRED", False)}

    await eventually(decided, within_s=30, what="the used one extended, the other one expired")


async def test_a_session_that_somebody_holds_is_waited_for_and_holds_up_no_other(
    sql: Sql, database: Database
) -> None:
    await add_pod(sql, "pod#1")
    await add_session(sql, "held", expires_in_s=-60)
    await add_session(sql, "other", expires_in_s=-60)
    await sql.execute("UPDATE session.pods SET flushed_until = now() - interval '300 s'")
    operator = await asyncpg.connect(database.owner_dsn)
    try:
        answered_at = await flush(sql, "pod#1", None)
        async with operator.transaction():
            await operator.execute("SELECT 1 FROM session.active_sessions WHERE session_id = 'held' FOR UPDATE")
            answered_at = await flush(sql, "pod#1", answered_at, held=120)
            assert await sql.fetchval("SELECT unwritten FROM session.pods") == ["held"]
            answered_at = await flush(sql, "pod#1", answered_at, held=120)
            assert await expire(sql) == {"other"}
        assert await expire(sql) == set(), "a use in time was not written yet"
        await flush(sql, "pod#1", answered_at, held=120)
        assert await sql.fetchval("SELECT unwritten FROM session.pods") == []
        assert await expire(sql) == set()
        row = await sql.fetchrow(
            "SELECT status, expires_at > now() + interval '50 min' FROM session.active_sessions"
            " WHERE session_id = 'held'"
        )
        assert tuple(row or ()) == ("INACTIVE", True)
    finally:
        await operator.close()
