"""``GET /api/v1/sandbox-sessions/events`` over real pods: nothing is missed, whatever comes between."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from session_service import config
from session_service.api.middleware import error_middleware
from session_service.api.sandbox_events import SandboxEventHandlers
from session_service.database.postgres import REQUEST_LIMIT_S, Postgres
from session_service.database.sandbox_changes import SandboxChangeRepository
from session_service.database.sql_files import load_queries
from session_service.domain.identity import SCOPE_SANDBOX, Identity
from session_service.sandboxes.changes import ChangeFollower
from session_service.telemetry.metrics import Metrics
from tests.support.change_stream import PATH, ChangeStream
from tests.support.sandboxes import Sandboxes, put
from tests.support.servers import TestServers
from tests.support.service import Service, bearer
from tests.support.sql import Sql
from tests.support.waiting import eventually

MakeService = Callable[..., object]


@asynccontextmanager
async def stream_server(
    sandboxes: Sandboxes,
    *,
    max_streams: int = 10,
    max_at_once: int = 10_000,
    max_missed_bytes: int = 64 * 1024 * 1024,
    comment_interval_s: float = 15.0,
    token_ttl_s: float = 600.0,
) -> AsyncIterator[tuple[str, ChangeFollower]]:
    """The route with limits of the test's own; its URL."""
    postgres = Postgres(config.load(sandboxes.database.environ()).settings.database, Metrics())
    await postgres.open()
    follower = ChangeFollower(
        SandboxChangeRepository(postgres, load_queries()),
        max_streams=max_streams,
        max_at_once=max_at_once,
        max_missed_bytes=max_missed_bytes,
        look_every_s=0.1,
    )
    handlers = SandboxEventHandlers(follower, Metrics(), comment_interval_s=comment_interval_s)

    async def handle(request: web.Request) -> web.StreamResponse:
        expires_at = time.time() + token_ttl_s
        return await handlers.handle_events(request, Identity("user-1", expires_at, frozenset({SCOPE_SANDBOX})))

    async def follow() -> None:
        while True:
            await follower.round()

    app = web.Application(middlewares=[error_middleware])
    app.router.add_get(PATH, handle, allow_head=False)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    following = asyncio.create_task(follow())
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", follower
    finally:
        following.cancel()
        await asyncio.wait([following])
        follower.close()
        await runner.cleanup()
        await postgres.close()


@asynccontextmanager
async def stalled_reader(port: int, headers: Mapping[str, str]) -> AsyncIterator[None]:
    """Asks for the stream, and reads nothing of it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.setblocking(False)
        await loop.sock_connect(stalled, ("127.0.0.1", port))
        lines = [f"GET {PATH} HTTP/1.1", "Host: pod", *(f"{name}: {value}" for name, value in headers.items())]
        await loop.sock_sendall(stalled, "".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        yield


async def test_changes_by_whatever_means_are_told(service: Service, sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    before = await put(shared)
    stream = ChangeStream()
    async with stream.open(service.url):
        made = await put(shared)
        await stream.saw(made, "pending")
        claim = await shared.fetchrow("SELECT id, claim FROM session_claim('worker')")
        assert claim is not None
        assert claim["id"] == before
        await stream.saw(before, "processing")
        await shared.execute("SELECT session_complete($1, $2)", claim["id"], claim["claim"])
        await stream.saw(before, "completed")
        await shared.execute("UPDATE session SET inbox_status = NULL WHERE id = $1", made)
        await stream.saw(made, None)
        await shared.execute("DELETE FROM session WHERE id = $1", made)
        await stream.saw(made, None, removed=True)
    assert stream.resets == []
    assert len(stream.told) == len(stream.changes)


async def test_who_may_read_it(service: Service) -> None:
    for headers, status, code in (
        ({}, 401, "AUTHENTICATION_FAILED"),
        (bearer(), 403, "FORBIDDEN"),
        (bearer(scope="simulators"), 403, "FORBIDDEN"),
    ):
        async with service.http.get(PATH, headers=headers) as response:
            assert response.status == status
            assert (await response.json())["code"] == code


@pytest.mark.parametrize(
    ("event_id", "reason"),
    [
        ("", "unknown_id"),
        ("42", "unknown_id"),
        ("'; DROP TABLE session --", "unknown_id"),
        ("1763000000:3:2::7-00000001-a", "unknown_id"),
        ("1763000000:3:9223372036854775808::7-00000001-a", "unknown_id"),
        ("1763000000:5:5::7-00000001-a", "other_history"),
    ],
)
async def test_an_id_that_is_not_from_here_is_answered_by_a_reset(
    service: Service, event_id: str, reason: str
) -> None:
    stream = ChangeStream()
    stream.last_event_id = event_id
    async with stream.open(service.url, resumed=True):
        assert stream.resets == [reason]
    # The id that came with it is good.
    async with stream.open(service.url, resumed=True):
        assert stream.resets == [reason]


async def test_ids_of_the_future_and_of_long_ago(service: Service) -> None:
    stream = ChangeStream()
    async with stream.open(service.url):
        pass
    assert stream.last_event_id is not None
    at_s, xmin, xmax, in_progress, origin = stream.last_event_id.split(":")
    for changed, reason in (
        (f"{at_s}:{xmin}:{int(xmax) + 10**9}:{in_progress}:{origin}", "other_history"),
        (f"{int(at_s) - 3600}:{xmin}:{xmax}:{in_progress}:{origin}", "too_old"),
        (f"{int(at_s) + 3600}:{xmin}:{xmax}:{in_progress}:{origin}", "too_old"),
    ):
        stream.resets.clear()
        stream.last_event_id = changed
        async with stream.open(service.url, resumed=True):
            assert stream.resets == [reason], changed


async def test_a_database_restored_on_the_same_server_is_another_history(
    servers: TestServers, sandboxes: Sandboxes
) -> None:
    """The server counts transactions on, and a restored database has the id of the one that it was."""
    database_id = "SELECT database_id FROM session.installation"
    stream = ChangeStream()
    async with stream_server(sandboxes) as (url, _follower), stream.open(url):
        await stream.saw(await put(await sandboxes.shared()), "pending")
    restored = await servers.create_database()
    try:
        async with Sandboxes(restored) as of_restored:
            await (await of_restored.owner()).execute(
                "UPDATE session.installation SET database_id = $1",
                await (await sandboxes.owner()).fetchval(database_id),
            )
            async with stream_server(of_restored) as (url, _follower), stream.open(url, resumed=True):
                assert stream.resets == ["other_history"]
    finally:
        await servers.drop_database(restored)


async def test_resumed_over_two_pods_amid_transactions_that_overlap(
    make_service: MakeService, sandboxes: Sandboxes
) -> None:
    """200 changes by eight writers whose transactions overlap, one of them open all the while."""
    pods: list[Service] = [await make_service(POD_NAME=f"pod-{n}") for n in (1, 2)]  # type: ignore[misc] # as in conftest
    owner = await sandboxes.owner()
    ids = [await put(owner) for _ in range(50)]
    held_id, *writer_ids = ids
    held = await sandboxes.shared()
    writers = [await sandboxes.shared() for _ in range(8)]
    expected: set[tuple[str, int]] = set()

    async def write(connection: Sql, mine: list[UUID], rounds: int) -> None:
        for number in range(rounds):
            async with connection.transaction():
                for one in mine[number % len(mine) :: 2]:
                    status = ("processing", "completed", "failed", "pending")[number % 4]
                    changed_in = await connection.fetchval(
                        "UPDATE session SET inbox_status = $2 WHERE id = $1 RETURNING changed_in", one, status
                    )
                    last[str(one)] = changed_in

    last: dict[str, int] = {}
    stream = ChangeStream()
    async with stream.open(pods[0].url):
        pass
    transaction = held.transaction()
    await transaction.start()
    last[str(held_id)] = await held.fetchval(
        "UPDATE session SET inbox_status = 'failed' WHERE id = $1 RETURNING changed_in", held_id
    )
    writing = asyncio.gather(
        *(write(connection, writer_ids[n::8], 25) for n, connection in enumerate(writers)), return_exceptions=False
    )
    opened = 0
    while not writing.done():
        async with stream.open(pods[opened % 2].url, resumed=True):
            seen = len(stream.changes)

            async def more(seen: int = seen) -> bool:
                return len(stream.changes) > seen or writing.done()

            await eventually(more, within_s=30, what="more changes")
        opened += 1
    await writing
    assert str(held_id) not in stream.last
    await transaction.commit()
    expected = set(last.items())

    async def all_told() -> bool:
        return expected <= stream.told

    async with stream.open(pods[opened % 2].url, resumed=True):
        await eventually(all_told, within_s=30, what="the last change of each row")
    assert stream.resets == []
    rows = await owner.fetch(
        "SELECT id::text AS id, inbox_status::text AS status FROM session WHERE id = ANY ($1)", ids
    )
    assert {row["id"]: row["status"] for row in rows} == {
        change.id: change.inbox_status for change in stream.last.values()
    }


async def test_more_changes_than_are_told_at_once_are_a_reset(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    stream, later = ChangeStream(), ChangeStream()
    async with stream_server(sandboxes, max_at_once=50) as (url, _follower):
        async with later.open(url):
            pass
        async with stream.open(url):
            await shared.execute("INSERT INTO session SELECT FROM generate_series(1, 50)")

            async def fifty() -> bool:
                return len(stream.changes) == 50

            await eventually(fifty, within_s=20, what="as many as are told")
            await shared.execute("INSERT INTO session SELECT FROM generate_series(1, 51)")

            async def was_reset() -> bool:
                return stream.resets == ["too_many"]

            await eventually(was_reset, within_s=20, what="a reset")
            made = await put(shared)
            await stream.saw(made, "pending")
            assert len(stream.changes) == 51
        async with later.open(url, resumed=True):
            assert later.resets == ["too_many"]
            assert later.changes == []


async def test_a_transaction_that_stays_open_holds_up_nobody_and_is_told_when_it_ends(sandboxes: Sandboxes) -> None:
    held, shared = await sandboxes.shared(), await sandboxes.shared()
    stream = ChangeStream()
    async with stream_server(sandboxes) as (url, _follower), stream.open(url):
        transaction = held.transaction()
        await transaction.start()
        early = await put(held)
        for _ in range(5):
            await stream.saw(await put(shared), "pending")
        assert str(early) not in stream.last
        await transaction.commit()
        await stream.saw(early, "pending")
        assert len(stream.told) == len(stream.changes) == 6


async def test_an_outage_of_the_database_costs_no_change(service: Service, sandboxes: Sandboxes) -> None:
    owner, shared = await sandboxes.owner(), await sandboxes.shared()
    stream = ChangeStream()
    async with stream.open(service.url):
        for _ in range(3):
            assert await owner.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename = 'session_service'"
            )
            await stream.saw(await put(shared), "pending")
    assert stream.resets == []
    assert len(stream.changes) == 3


async def test_a_database_that_does_not_answer_keeps_nobody_waiting_for_the_others(
    service: Service, sandboxes: Sandboxes
) -> None:
    """Each look at it takes its whole time: one after the other, ten would take half a minute."""
    owner = await sandboxes.owner()

    async def status() -> tuple[int, str]:
        async with service.http.get(PATH, headers=bearer(scope="sandbox")) as response:
            return response.status, response.headers.get("Retry-After", "")

    async with owner.transaction():
        await owner.execute("LOCK TABLE session.installation")
        async with asyncio.timeout(4 * REQUEST_LIMIT_S):
            assert set(await asyncio.gather(*(status() for _ in range(10)))) == {(503, "1")}


async def test_a_quiet_stream_has_comments_and_positions_and_ends_with_its_token(sandboxes: Sandboxes) -> None:
    stream = ChangeStream()
    async with (
        stream_server(sandboxes, comment_interval_s=0.1, token_ttl_s=2) as (url, _follower),
        stream.open(url),
    ):
        first_id = stream.last_event_id

        async def ended() -> bool:
            return stream.ended

        await eventually(ended, within_s=30, what="the end of the token")
        assert stream.comments >= 2
        # Each comment brings the present position, which grows old no sooner than the stream's.
        assert stream.last_event_id is not None
        assert first_id is not None
        assert int(stream.last_event_id.split(":")[0]) > int(first_id.split(":")[0])


async def test_no_more_streams_than_there_may_be(sandboxes: Sandboxes) -> None:
    async with stream_server(sandboxes, max_streams=1) as (url, _follower), aiohttp.ClientSession(url) as http:

        async def is_taken() -> bool:
            async with http.get(PATH) as response:
                return response.status == 200

        async with ChangeStream().open(url), http.get(PATH) as response:
            assert response.status == 503
            assert "Retry-After" in response.headers
        await eventually(is_taken, within_s=20, what="room for another")


async def test_those_who_do_not_read_what_they_missed_are_few(sandboxes: Sandboxes) -> None:
    """Each of them takes up to some megabytes until it has read them."""
    shared = await sandboxes.shared()
    stream = ChangeStream()
    async with stream_server(sandboxes, max_missed_bytes=700_000) as (url, _follower), stream.open(url):
        resumed = {"Last-Event-ID": str(stream.last_event_id)}
        await shared.execute("INSERT INTO session SELECT FROM generate_series(1, 2000)")

        async def all_told() -> bool:
            return len(stream.changes) == 2000

        await eventually(all_told, within_s=30, what="the changes, for who reads")
        async with aiohttp.ClientSession(url, headers=resumed) as http:

            async def status() -> tuple[int, str]:
                async with http.get(PATH) as response:
                    return response.status, response.headers.get("Retry-After", "")

            async def is_refused() -> bool:
                return await status() == (503, "5")

            async def is_told() -> bool:
                return await status() == (200, "")

            async with stalled_reader(urlsplit(url).port or 0, resumed):
                await eventually(is_refused, within_s=20, what="one has not read yet")
            await eventually(is_told, within_s=20, what="the other one has gone")


async def test_it_is_counted_and_a_drain_ends_it(make_service: MakeService, sandboxes: Sandboxes) -> None:
    pod: Service = await make_service()  # type: ignore[misc] # as in conftest
    stream = ChangeStream()

    async def open_streams() -> float | None:
        return pod.server.metrics.registry.get_sample_value("session_sse_connections")

    async def counted() -> bool:
        return await open_streams() == 1

    async with stream.open(pod.url):
        await eventually(counted, within_s=20, what="one stream")
        await pod.server.shutdown("drain")
        assert stream.ended
    assert await open_streams() == 0


async def test_who_does_not_read_is_closed_and_holds_up_nobody(service: Service, sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    stream = ChangeStream()

    async def open_streams(number: int) -> bool:
        return service.server.metrics.registry.get_sample_value("session_sse_connections") == number

    async with stalled_reader(service.port, bearer(scope="sandbox")):
        await eventually(lambda: open_streams(1), within_s=20, what="the stalled one")
        async with stream.open(service.url):
            await eventually(lambda: open_streams(2), within_s=20, what="both")
            for round_number in range(1, 4):
                await shared.execute("INSERT INTO session SELECT FROM generate_series(1, 2000)")

                async def all_told(expected: int = 2000 * round_number) -> bool:
                    return len(stream.changes) == expected

                await eventually(all_told, within_s=30, what="2000 more for who reads")
            await eventually(lambda: open_streams(1), within_s=60, what="the end of who does not")
            await stream.saw(await put(shared), "pending")
    assert stream.resets == []
