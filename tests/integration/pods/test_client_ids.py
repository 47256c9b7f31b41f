"""Of the sockets of one client id one stays, whichever pods they are on (docs/adr/0019)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.integration.pods.conftest import EVENTS, NEITHER, ROUNDS, MakePods, Way
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import Client, connect

# Every status that a session had, in order.
LOG_STATUSES = """
    CREATE TABLE public.status_log (number SERIAL, status TEXT);
    CREATE FUNCTION public.log_status() RETURNS TRIGGER AS $$
    BEGIN
        INSERT INTO public.status_log (status) VALUES (NEW.status);
        RETURN NULL;
    END;
    $$ LANGUAGE plpgsql SECURITY DEFINER;
    CREATE TRIGGER log_status AFTER UPDATE ON session.active_sessions
        FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION public.log_status();
"""


async def rows(sql: Sql) -> list[tuple[str, int, str]]:
    """Client, attempt and pod of every counted socket."""
    records = await sql.fetch(
        "SELECT client_id, attempt, pod_name FROM session.sockets JOIN session.pods USING (pod_id) ORDER BY client_id"
    )
    return [tuple(record) for record in records]


async def lives(client: Client) -> bool:
    answer = await client.ask("request_session")
    return bool(answer["type"] == "session_info")


def last(client: Client) -> dict[str, Any]:
    return client.frames[-1]


@pytest.mark.parametrize("attempt", [1, 2], ids=["equal", "higher"])
async def test_the_newer_socket_stays_and_counts(make_pods: MakePods, sql: Sql, way: Way, attempt: int) -> None:
    await sql.execute(LOG_STATUSES)
    one, two = await make_pods(2, way)
    async with connect(one, clientId="tab", attempt=1) as old, connect(two, clientId="tab", attempt=attempt) as new:
        assert await old.close_code() == 4504
        assert (last(old)["type"], last(old)["reason"]) == ("connection_replaced", "newer_connection")

        async def old_has_left() -> bool:
            return not len(one.server._websockets.registry)

        await eventually(old_has_left, within_s=20, what="the end of the old one")
        assert await lives(new)
        assert await rows(sql) == [("tab", attempt, "pod-2")]
        metadata = await sql.fetchval(
            "SELECT metadata::jsonb ->> 'frontend_connections' FROM session.session_metadata"
        )
        assert metadata == "1"
        assert await sql.fetch("SELECT status FROM public.status_log") == []  # ACTIVE all the time


async def test_a_lower_attempt_is_the_loser_on_any_pod(make_pods: MakePods, sql: Sql, way: Way) -> None:
    one, two = await make_pods(2, way)
    async with connect(one, clientId="tab", attempt=5) as newer:
        async with connect(two, clientId="tab", attempt=4, connected=False) as late:
            assert await late.close_code() == 4504
            assert [frame["type"] for frame in late.frames] == ["connection_replaced"]
        assert await lives(newer)
        assert await rows(sql) == [("tab", 5, "pod-1")]


async def test_a_clients_way_to_and_fro_ends_with_its_last_socket(make_pods: MakePods, sql: Sql) -> None:
    """Attempts that never rise: the latest arrival stays, and no round gives its row away again."""
    pods = await make_pods(2, ROUNDS)
    async with AsyncExitStack() as exits:
        *_older, third, latest = [
            await exits.enter_async_context(connect(pod, clientId="tab")) for pod in (*pods, *pods)
        ]
        assert await third.close_code() == 4504

        async def one_is_left() -> bool:
            return [len(pod.server._websockets.registry) for pod in pods] == [0, 1]

        await eventually(one_is_left, within_s=20, what="one socket")
        for _round in range(4):
            for pod in pods:
                await pod.server._socket_round()
        assert await lives(latest)
        assert await rows(sql) == [("tab", 0, "pod-2")]


async def test_after_the_table_was_lost_both_say_so_and_the_newer_one_stays(make_pods: MakePods, sql: Sql) -> None:
    """As after a crash of PostgreSQL: unlogged tables are empty then."""
    one, two = await make_pods(2, NEITHER)
    async with connect(one, clientId="tab") as old, connect(two, clientId="tab") as new:
        for first, second in ((one, two), (two, one)):
            await sql.execute("TRUNCATE session.sockets")
            await first.server._websockets.socket_round()
            await second.server._websockets.socket_round()
            await first.server._websockets.socket_round()
            assert await rows(sql) == [("tab", 0, "pod-2")]

        async def old_is_told() -> bool:
            await one.server._websockets.socket_round()
            await two.server._websockets.socket_round()
            return old.socket.closed or not len(one.server._websockets.registry)

        closing = asyncio.ensure_future(old.close_code())
        await eventually(old_is_told, within_s=20, what="the older one's close")
        assert await closing == 4504
        assert await lives(new)


async def test_an_event_that_comes_late_does_not_close_the_newer_socket(make_pods: MakePods) -> None:
    one, two = await make_pods(2, EVENTS)
    told: list[Any] = []
    one.server._database.events.subscribe(told.append)
    async with connect(one, clientId="tab"), connect(two, clientId="tab"):

        async def has_come() -> bool:
            return any(event.pod_name == "pod-2" and event.type == "client_connected" for event in told)

        await eventually(has_come, within_s=20, what="the event of the second socket")
        async with connect(one, clientId="tab") as latest:
            for event in told:
                one.server._websockets.on_event(event)
            assert await lives(latest)


async def test_two_sockets_of_one_attempt_on_one_pod_uncount_themselves_only(make_pods: MakePods, sql: Sql) -> None:
    (one,) = await make_pods(1, ROUNDS)
    async with connect(one, clientId="tab", attempt=1) as old:
        async with connect(one, clientId="tab", attempt=1) as new:
            assert await old.close_code() == 4504

            async def one_is_left() -> bool:
                return len(one.server._websockets.registry) == 1

            await eventually(one_is_left, within_s=20, what="one socket")
            assert await lives(new)
            assert await rows(sql) == [("tab", 1, "pod-1")]

        async def none_is_left() -> bool:
            return await rows(sql) == []

        await eventually(none_is_left, within_s=20, what="no row")


async def test_a_client_moves_from_a_draining_pod_without_a_gap(make_pods: MakePods, sql: Sql, way: Way) -> None:
    await sql.execute(LOG_STATUSES)
    one, two = await make_pods(2, way, DRAIN_WINDOW_SECONDS="30")
    async with connect(one, clientId="tab", attempt=1) as old:
        leaving = asyncio.ensure_future(one.server.shutdown("test"))
        await old.receive_type("pod_terminating")
        async with connect(two, clientId="tab", attempt=2) as new:
            assert await old.close_code() == 1000
            await leaving
            assert await lives(new)
            session = await new.ask("request_session")
            assert session["status"] == "ACTIVE"
            assert await sql.fetch("SELECT status FROM public.status_log") == []
            assert await rows(sql) == [("tab", 2, "pod-2")]
            count = await sql.fetchval("SELECT metadata ->> 'reconnect_count' FROM session.session_metadata")
            assert count == "2"  # each connection whose attempt is above 0


async def test_a_new_incarnation_keeps_its_sockets(make_pods: MakePods, sql: Sql) -> None:
    """A pod that was taken for dead goes on under another pod_id, and its sockets with it."""
    one, _two = await make_pods(2, ROUNDS)
    async with connect(one, clientId="tab", attempt=1) as client:
        before = one.server._pod_id()
        await sql.execute("UPDATE session.pods SET dead = TRUE WHERE pod_id = $1", before)

        async def is_counted_anew() -> bool:
            now = await sql.fetchval("SELECT pod_id FROM session.sockets")
            return now not in {None, before} and now == one.server._pod_id()

        await eventually(is_counted_anew, within_s=20, what="the row under the new incarnation")
        assert await lives(client)
        assert await sql.fetchval("SELECT status FROM session.active_sessions") == "ACTIVE"


async def test_a_newer_socket_that_ends_before_its_first_frame_leaves_the_older_one(
    make_pods: MakePods, sql: Sql
) -> None:
    one, two = await make_pods(2, NEITHER)
    async with connect(one, clientId="tab", attempt=0) as older:
        session_id = older.frames[0]["sessionId"]
        reconnection = two.server._sessions.reconnection
        newer = await reconnection.socket_opened(session_id, "user-1", "tab", 1, "websocket", named=True)
        assert await rows(sql) == [("tab", 1, "pod-2")]
        await reconnection.socket_closed(newer.arrival, by_client=False)
        assert await sql.fetchval("SELECT count(*) FROM session.superseded") == 0
        await one.server._websockets.socket_round()
        assert await rows(sql) == [("tab", 0, "pod-1")]
        assert await lives(older)


async def test_an_older_socket_goes_also_when_the_newer_one_has_left_before_anybody_looked(
    make_pods: MakePods, sql: Sql
) -> None:
    one, two = await make_pods(2, NEITHER)
    async with connect(one, clientId="tab", attempt=0) as older:
        async with connect(two, clientId="tab", attempt=1) as newer:
            await newer.socket.close()
        closing = asyncio.ensure_future(older.close_code())

        async def is_closed() -> bool:
            await one.server._websockets.socket_round()
            return closing.done()

        await eventually(is_closed, within_s=20, what="the older one's close")
        assert await closing == 4504
        assert await rows(sql) == []
    assert await sql.fetchval("SELECT status FROM session.active_sessions") == "INACTIVE"


async def test_a_replaced_socket_stays_where_the_newer_one_ends_without_a_frame_before_it_is_due(
    make_pods: MakePods, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_service.sessions.reconnection.FIRST_FRAME_LIMIT_S", 0.3)
    one, two = await make_pods(2, NEITHER)
    async with connect(one, clientId="tab", attempt=0) as older:
        session_id = older.frames[0]["sessionId"]
        reconnection = two.server._sessions.reconnection
        newer = await reconnection.socket_opened(session_id, "user-1", "tab", 1, "websocket", named=True)
        await one.server._websockets.socket_round()  # sees the newer one, which may yet have its first frame
        await reconnection.socket_closed(newer.arrival, by_client=False)
        closing = asyncio.ensure_future(older.close_code())
        await asyncio.wait([closing], timeout=1.0)
        assert not closing.done()
        closing.cancel()
        await one.server._websockets.socket_round()
        assert await rows(sql) == [("tab", 0, "pod-1")]
