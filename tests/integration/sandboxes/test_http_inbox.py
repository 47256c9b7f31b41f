"""The inbox over HTTP on two pods: each piece of work once, whoever waits, leaves, dies or drains."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from session_service.sandboxes.service import LOOK_EVERY_S
from tests.support.metrics_reader import metric_total
from tests.support.sandbox_client import SandboxClient
from tests.support.servers import Database, TestServers
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.stalls import Stalls
from tests.support.waiting import POLL_S, eventually

WORKERS = 10  # on each pod
PIECES = 200
WOKEN_WITHIN_S = 1.0


@pytest.fixture
async def pods(servers: TestServers, database: Database) -> AsyncIterator[list[Service]]:
    async with AsyncExitStack() as exits:
        yield [
            await exits.enter_async_context(
                Service(
                    {
                        **database.environ(),
                        **servers.redis_environ(),
                        "POD_NAME": f"pod-{number}",
                        "SIMULATOR_BACKEND": "service",
                        "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1",
                    }
                )
            )
            for number in (1, 2)
        ]


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection: Sql = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


async def waits_for_lock(sql: Sql, query: str) -> bool:
    """Whether a statement in which ``query`` occurs does."""
    await sql.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction it would see what it saw first
    return bool(
        await sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ $1"
            " AND datname = current_database()",
            query,
        )
    )


async def waiters(pod: Service, number: int) -> None:
    """Return when so many requests wait on this pod."""

    async def are_there() -> bool:
        return await metric_total(pod, "session_sandbox_waiters") == number

    await eventually(are_there, within_s=20, what=f"{number} wait")


async def claims_asked(pod: Service) -> float:
    """How many statements this pod has made for claims."""
    return await metric_total(pod, "session_db_operation_duration_seconds_count", operation="claim_sandbox_session")


async def test_workers_on_two_pods_do_each_piece_once(pods: list[Service], sql: Sql) -> None:
    await sql.execute(
        "INSERT INTO session (messages, inbox_status) SELECT to_jsonb(n), 'pending' FROM generate_series(1, $1) n",
        PIECES,
    )
    done: Counter[int] = Counter()

    async def work(pod: Service, name: str) -> None:
        client = SandboxClient(pod)
        while (claimed := await client.claim(name)) is not None:
            done[claimed["messages"]] += 1
            assert (await client.end(claimed, "complete", messages=name))[0] == 200

    await asyncio.gather(*(work(pod, f"{pod.port}-{number}") for pod in pods for number in range(WORKERS)))
    assert done == Counter(range(1, PIECES + 1))
    assert await sql.fetchval("SELECT count(*) FROM session WHERE inbox_status = 'completed'") == PIECES
    assert await sql.fetchval("SELECT max(attempts) FROM session") == 1


async def test_work_from_another_pod_wakes_who_waits(pods: list[Service], stalls: Stalls) -> None:
    here, there = (SandboxClient(pod) for pod in pods)
    waiting = asyncio.ensure_future(there.claim(waitSeconds=30))
    await waiters(pods[1], 1)
    made = await here.create(messages="for the other pod")
    created = time.monotonic()
    work = await waiting
    assert stalls.took_s(created) < WOKEN_WITHIN_S
    assert work is not None
    assert work["id"] == made["id"]


async def test_one_piece_wakes_one_of_many(pods: list[Service]) -> None:
    client = SandboxClient(pods[0])
    waiting = [asyncio.ensure_future(client.claim(f"w{n}", waitSeconds=30)) for n in range(60)]

    async def all_have_asked() -> bool:
        return await claims_asked(pods[0]) >= 60

    await eventually(all_have_asked, within_s=20, what="each has found nothing")
    before, began = await claims_asked(pods[0]), time.monotonic()
    await client.create()
    done, still = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    asked, looks = await claims_asked(pods[0]) - before, (time.monotonic() - began) / LOOK_EVERY_S
    assert len(done) == 1
    assert asked <= 3 + looks
    for call in still:
        call.cancel()
    await asyncio.gather(*still, return_exceptions=True)


async def test_a_worker_that_dies_and_comes_back_late(pods: list[Service]) -> None:
    first, second = (SandboxClient(pod) for pod in pods)
    await first.create()
    lost = await first.claim("dies", visibilitySeconds=0.2)
    assert lost is not None
    work = await second.claim("lives", waitSeconds=30)
    assert work is not None
    assert (work["id"], work["claim"] != lost["claim"]) == (lost["id"], True)
    for how in ("complete", "fail"):
        status, body = await first.end(lost, how)
        assert (status, body["code"]) == (409, "CLAIM_LOST")
    assert (await second.end(work, "complete"))[0] == 200


async def test_many_that_ran_out_are_found_by_those_who_wait(pods: list[Service], sql: Sql) -> None:
    """Nobody is notified of them."""
    client = SandboxClient(pods[0])
    for _ in range(20):
        await client.create()
        assert await client.claim("dies", visibilitySeconds=1) is not None
    claimed = await asyncio.gather(*(client.claim(f"w{n}", waitSeconds=30, visibilitySeconds=60) for n in range(20)))
    assert len({work["id"] for work in claimed if work is not None}) == 20
    assert await sql.fetchval("SELECT count(*) FROM session WHERE attempts = 2") == 20


async def test_clients_that_leave_lose_nothing(pods: list[Service], sql: Sql) -> None:
    """At any moment, that of the claim included: what was claimed for nobody is put back, and has had no attempt.

    Only an answer that was written already is lost with who left; its work comes back when its claim runs out.
    """
    leaver, worker = (SandboxClient(pod) for pod in pods)

    async def leave(after_s: float) -> None:
        call = asyncio.ensure_future(leaver.claim("leaves", waitSeconds=30))
        await asyncio.wait([call], timeout=after_s)
        call.cancel()
        await asyncio.wait([call])

    for number in range(60):
        if number % 3 == 0:
            await asyncio.gather(worker.create(), worker.create())
        # Ever sooner, so that the last leave before they can have been answered.
        await asyncio.gather(*(leave((19 - number % 20) / 2000) for _ in range(4)))
    await waiters(pods[0], 0)
    answered = await metric_total(
        pods[0], "session_rest_requests_total", route="/api/v1/sandbox-sessions/claim", status="200"
    )
    taken: Counter[str] = Counter()

    async def all_claimed() -> bool:
        work = await worker.claim("stays", visibilitySeconds=600)
        if work is not None:
            taken[work["id"]] += 1
        return taken.total() == 40 - answered

    await eventually(all_claimed, within_s=20, what="the others are there, long before 30 s are over")
    assert set(taken.values()) <= {1}  # none, where each was answered before its client had left
    assert await sql.fetchval("SELECT max(attempts) FROM session") == 1


async def test_what_is_claimed_when_its_client_has_left_is_put_back(pods: list[Service], sql: Sql) -> None:
    client = SandboxClient(pods[0])
    made = await client.create()

    async def is_put_back() -> bool:
        return await metric_total(pods[0], "session_operations_total", operation="sandbox_release") > 0

    async def leave_while_it_is_claimed() -> bool:
        async with sql.transaction():
            await sql.execute("LOCK TABLE session")
            call = asyncio.ensure_future(client.claim("leaves", visibilitySeconds=600))
            while not call.done() and not await waits_for_lock(sql, "session_claim"):
                await asyncio.sleep(POLL_S)
            has_left = call.cancel()  # not where the pod gave up waiting for the lock before
            await asyncio.gather(call, return_exceptions=True)
            if has_left:
                await eventually(knows_of_it, within_s=20, what="the pod knows that the client has left")
        return has_left

    async def knows_of_it() -> bool:
        route = "/api/v1/sandbox-sessions/claim"
        return await metric_total(pods[0], "session_rest_requests_total", route=route, status="499") > 0

    async def happens() -> bool:
        if await leave_while_it_is_claimed():
            with contextlib.suppress(AssertionError):  # the pod may have given up waiting for the lock since
                await eventually(is_put_back, within_s=5, what="the work is put back")
        return await is_put_back()

    await eventually(happens, within_s=60, what="the work is put back")
    row = await sql.fetchrow("SELECT inbox_status, claim, attempts FROM session WHERE id = $1", made["id"])
    assert row is not None
    assert tuple(row) == ("pending", None, 0)


async def test_a_pod_that_drains_lets_go_of_who_waits(pods: list[Service], stalls: Stalls) -> None:
    client = SandboxClient(pods[0])

    async def wait(worker: str) -> tuple[int, str | None]:
        async with client.request("POST", "/claim", json={"worker": worker, "waitSeconds": 30}) as response:
            return response.status, response.headers.get("Connection")

    waiting = [asyncio.ensure_future(wait(f"w{n}")) for n in range(10)]
    await waiters(pods[0], 10)
    began = time.monotonic()
    ending = asyncio.ensure_future(pods[0].server.shutdown("test"))
    assert await asyncio.gather(*waiting) == [(204, "close")] * 10
    assert stalls.took_s(began) < WOKEN_WITHIN_S
    await ending


async def test_two_moves_that_would_make_a_ring_are_not_both_made(pods: list[Service]) -> None:
    clients = [SandboxClient(pod) for pod in pods]
    for _ in range(5):
        one, other = [(await clients[0].create(inbox_status=None))["id"] for _ in range(2)]
        answers = await asyncio.gather(
            clients[0].call("PATCH", f"/{one}", json={"parent": other}),
            clients[1].call("PATCH", f"/{other}", json={"parent": one}),
        )
        assert sorted(status for status, _body in answers) == [200, 400]


async def test_a_row_that_somebody_holds_keeps_nobody_from_the_others(pods: list[Service], sql: Sql) -> None:
    """Each call that waits for it has a connection, and there are few."""
    client = SandboxClient(pods[0])
    held = await client.create(inbox_status=None)
    async with sql.transaction():
        await sql.execute("SELECT FROM session WHERE id = $1 FOR UPDATE", held["id"])
        calls = [
            asyncio.ensure_future(client.call("PATCH", f"/{held['id']}", json={"messages": 1})) for _ in range(12)
        ]

        async def one_waits() -> bool:
            return await waits_for_lock(sql, "UPDATE public.session")

        await eventually(one_waits, within_s=20, what="a call that waits for the row")
        assert await client.claim() is None
        assert {status for status, _ in await asyncio.gather(*calls)} == {503}
