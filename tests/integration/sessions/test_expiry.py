"""The end of a session by time: pushed, final, never undone; and what moves the time (docs/lifecycle.md#sessions)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from session_service.database.sql_files import load_queries
from tests.support.api_client import ApiClient
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.stalls import Stalls
from tests.support.waiting import eventually
from tests.support.websocket_client import connect

EXPIRES_AT = "SELECT extract(epoch FROM expires_at)::float8 FROM session.active_sessions WHERE session_id = $1"
RUN_OUT = "UPDATE session.active_sessions SET expires_at = now() - interval '1 ms' WHERE session_id = $1"


@pytest.fixture
async def short(make_service: Callable[..., Any]) -> Service:
    """A pod whose sessions last for two seconds."""
    made: Service = await make_service(SESSION_TIMEOUT_SECONDS="2")
    return made


async def test_expiry_is_pushed_to_the_open_socket_within_a_second(
    make_service: Callable[..., Any], sql: Sql
) -> None:
    service: Service = await make_service(SESSION_TIMEOUT_SECONDS="1")
    with Stalls() as stalls:
        for attempt in range(3):
            async with connect(service, deviceId=f"device-{attempt}") as client:
                ended = await client.receive_type("session_ended")
                ended_at, ended_s = time.time(), time.monotonic()
                assert ended["reason"] == "expired"
                assert await client.close_code() == 4503
                late_s = ended_at - await sql.fetchval(EXPIRES_AT, client.frames[0]["sessionId"])
                assert late_s >= 0
                assert stalls.took_s(ended_s - late_s, ended_s) <= 1.0, late_s


async def test_a_socket_that_says_nothing_does_not_keep_its_session(short: Service) -> None:
    async with connect(short) as client:
        with Stalls() as stalls:
            started = time.monotonic()
            assert await client.close_code() == 4503
            assert time.monotonic() - started >= 1.9
            assert stalls.took_s(started) <= 3.5


async def test_messages_keep_a_session_past_its_timeout(make_service: Callable[..., Any], sql: Sql) -> None:
    service: Service = await make_service(SESSION_TIMEOUT_SECONDS="60")
    async with connect(service) as client:
        session_id = client.frames[0]["sessionId"]
        for _ in range(2):
            # As 40 s after it was used last.
            await sql.execute("UPDATE session.active_sessions SET expires_at = now() + interval '20 s'")
            service.server._activity.forget(session_id)

            async def is_extended() -> bool:
                ack = await client.ask("request_session")
                assert ack["type"] == "session_info", ack
                return bool(await sql.fetchval(EXPIRES_AT, session_id) > time.time() + 45)

            await eventually(is_extended, within_s=15, what="a message counts as a use")
        assert await sql.fetchval("SELECT status FROM session.active_sessions") == "ACTIVE"


async def test_expired_is_410_while_the_row_is_there_and_404_after(api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    await sql.execute(RUN_OUT, session_id)
    for method, path in (("GET", ""), ("POST", "/keepalive"), ("POST", "/reconnect")):
        json = {"deviceId": "device-1", "attempt": 1} if path == "/reconnect" else None
        status, body = await api.call(method, f"/api/sessions/{session_id}{path}", json=json)
        assert (status, body["code"]) == (410, "SESSION_EXPIRED"), path
    assert (await api.call("GET", f"/api/sessions/{session_id}/ready"))[0] == 409
    assert (await api.call("GET", "/api/sessions"))[1]["sessions"] == []
    await sql.fetchval("SELECT session.cleanup_expired_sessions()")
    for method, path in (("GET", ""), ("POST", "/keepalive"), ("GET", "/ready"), ("DELETE", "")):
        status, body = await api.call(method, f"/api/sessions/{session_id}{path}")
        assert (status, body["code"]) == (404, "SESSION_NOT_FOUND"), path


async def test_keepalive_moves_the_expiry_at_once(api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    await sql.execute("UPDATE session.active_sessions SET expires_at = now() + interval '5 s'")
    status, body = await api.call("POST", f"/api/sessions/{session_id}/keepalive")
    assert status == 200
    assert body["success"] is True
    assert await sql.fetchval(EXPIRES_AT, session_id) > time.time() + 3500


async def test_an_expired_session_makes_room_for_a_new_one(api: ApiClient, sql: Sql) -> None:
    old = await api.open_session()
    await sql.execute(RUN_OUT, old)
    new = await api.open_session()
    assert new != old
    assert await sql.fetchval("SELECT status FROM session.active_sessions WHERE session_id = $1", old) == "EXPIRED"


async def test_activity_before_expiry_extends_although_it_is_written_after_it(api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    flush = load_queries()["sessions.flush_activity"]
    async with sql.transaction():  # holds the row: no expiry round comes between
        await sql.execute("UPDATE session.active_sessions SET expires_at = now() - interval '2 s'")
        # One second ago it had run out.
        await sql.execute(flush, "other-pod#1", None, 0.0, False, [], [session_id], [1.0], [1.0], 3600.0)
        assert await sql.fetchval(EXPIRES_AT, session_id) < time.time()
        await sql.execute(flush, "other-pod#1", None, 0.0, False, [], [session_id], [3.0], [1.0], 3600.0)
        assert await sql.fetchval(EXPIRES_AT, session_id) > time.time() + 3500


async def test_what_is_marked_expired_is_never_revived(api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    await sql.execute(RUN_OUT, session_id)
    await sql.fetch("SELECT session.expire_sessions()")
    flush = load_queries()["sessions.flush_activity"]
    await sql.execute(flush, "other-pod#1", None, 0.0, False, [], [session_id], [60.0], [0.0], 3600.0)
    await api.call("POST", f"/api/sessions/{session_id}/keepalive")
    row = await sql.fetchrow("SELECT status, expires_at < now() AS over FROM session.active_sessions")
    assert tuple(row or ()) == ("EXPIRED", True)


async def test_the_expiry_round_waits_for_activity_that_is_not_written(service: Service, sql: Sql) -> None:
    """A call, then the expiry, then the rounds: the call wins."""
    api = ApiClient(service.http)
    session_id = await api.open_session()
    ops = service.server._sessions.session_ops
    async with sql.transaction():
        # The row is held, so that neither flush nor expiry can happen between these statements.
        await sql.fetch("SELECT 1 FROM session.active_sessions FOR UPDATE")
        ops.touch(session_id)
        await asyncio.sleep(0.05)
        await sql.execute("UPDATE session.active_sessions SET expires_at = clock_timestamp() - interval '10 ms'")
    await ops.expire()
    await ops.cleanup()

    async def is_extended() -> bool:
        return bool(await sql.fetchval(EXPIRES_AT, session_id) > time.time() + 3500)

    await eventually(is_extended, within_s=20, what="the call counts")


async def test_deleting_ends_the_socket_with_4503(api: ApiClient, service: Service) -> None:
    async with connect(service) as client:
        session_id = client.frames[0]["sessionId"]
        assert (await api.call("DELETE", f"/api/sessions/{session_id}"))[1]["success"] is True
        assert (await client.receive_type("session_ended"))["reason"] == "ended"
        assert await client.close_code() == 4503


async def test_a_row_deleted_by_hand_ends_the_socket_within_a_round(
    make_service: Callable[..., Any], sql: Sql
) -> None:
    service: Service = await make_service(POD_LEASE_SECONDS="1")
    async with connect(service) as client:
        with Stalls() as stalls:
            await sql.execute("DELETE FROM session.active_sessions")
            started = time.monotonic()
            assert await client.close_code() == 4503
            assert stalls.took_s(started) <= 2.0


async def test_expired_rows_are_deleted_in_the_end(make_service: Callable[..., Any], sql: Sql) -> None:
    service: Service = await make_service()
    api = ApiClient(service.http)
    session_id = await api.open_session()
    await sql.execute(RUN_OUT, session_id)

    async def is_gone() -> bool:
        await service.server._sessions.session_ops.cleanup()
        return (await api.call("GET", f"/api/sessions/{session_id}"))[0] == 404

    await eventually(is_gone, within_s=20, what="404")


async def test_every_end_is_told_also_of_more_than_one_batch(service: Service, sql: Sql) -> None:
    """Cleanup deletes whatever has run out: none of it may go without its event."""
    told: set[str | None] = set()
    service.server._database.events.subscribe(lambda event: told.add(event.session_id))
    async with sql.transaction():  # all at once, and no round of the pod's own comes between
        await sql.execute(
            "INSERT INTO session.active_sessions (session_id, user_id, device_id, status, expires_at)"
            " SELECT 's' || n, 'u' || n, 'd', 'INACTIVE', clock_timestamp() FROM generate_series(1, 2500) n"
        )
        await sql.execute("INSERT INTO session.session_metadata SELECT session_id FROM session.active_sessions")

    async def none_is_left() -> bool:
        await service.server._sessions.session_ops.cleanup()
        return bool(await sql.fetchval("SELECT count(*) = 0 FROM session.active_sessions"))

    await eventually(none_is_left, within_s=20, what="every row deleted")
    assert len(told - {None}) == 2500
