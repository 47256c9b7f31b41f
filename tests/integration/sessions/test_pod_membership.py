"""Pods among pods, on real PostgreSQL: deaths that are seen, incarnations that go on, and who is the last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from session_service import config
from session_service.aiokit.tasks import TaskGuard
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.database.pods import PodRepository
from session_service.database.postgres import Postgres
from session_service.database.presence import PodPresence
from session_service.database.redis import Redis
from session_service.database.sql_files import load_queries
from session_service.sessions.pod_membership import PodMembership
from session_service.telemetry.metrics import Metrics
from tests.support.servers import Database, TestServers
from tests.support.sql import Sql
from tests.support.stalls import Stalls
from tests.support.waiting import eventually

LEASE_S = 1.0
SEEN_WITHIN_S = 20 * LEASE_S  # a lease and two rounds, and room for a slow machine

MakePod = Callable[[str, str], Awaitable[PodMembership]]


@pytest.fixture
async def make_pod(servers: TestServers, database: Database) -> AsyncIterator[MakePod]:
    """``await make_pod(name, address)``: a pod that has registered; its rounds are the test's to make."""
    settings = config.load({**database.environ(), **servers.redis_environ()}).settings
    clock = asyncio.get_running_loop().time
    async with AsyncExitStack() as exits:

        async def make(name: str, address: str) -> PodMembership:
            postgres = Postgres(settings.database, Metrics())
            await postgres.open()
            exits.push_async_callback(postgres.close)
            redis = Redis(settings.redis, CircuitBreaker("redis", clock=clock))
            exits.push_async_callback(redis.close)
            membership = PodMembership(
                PodRepository(postgres, load_queries()),
                PodPresence(redis, name, lease_s=LEASE_S),
                pod_name=name,
                address=address,
                version="1",
                lease_s=LEASE_S,
                clock=clock,
            )
            await membership.ensure_registered()
            return membership

        yield make


def soon() -> float:
    return asyncio.get_running_loop().time() + SEEN_WITHIN_S


@asynccontextmanager
async def alive(*pods: PodMembership) -> AsyncIterator[None]:
    """While this lasts, these pods make their rounds."""
    guard = TaskGuard()
    for pod in pods:
        guard.every(pod.pod_name, LEASE_S / 3, pod.round)
    try:
        yield
    finally:
        await guard.close()


async def dead(sql: Sql) -> set[str]:
    return {row["pod_id"] for row in await sql.fetch("SELECT pod_id FROM session.pods WHERE dead")}


async def add_session_of(sql: Sql, pod_id: str) -> None:
    await sql.execute(
        "INSERT INTO session.active_sessions (session_id, user_id, status, expires_at)"
        " VALUES ('s', 'u', 'ACTIVE', now() + interval '1 hour')"
    )
    await sql.execute("INSERT INTO session.session_metadata (session_id) VALUES ('s')")
    await sql.execute("INSERT INTO session.sockets (session_id, client_id, pod_id) VALUES ('s', 'tab', $1)", pod_id)


async def session_status(sql: Sql) -> tuple[str, int]:
    status = await sql.fetchval("SELECT status FROM session.active_sessions")
    return str(status), int(await sql.fetchval("SELECT count(*) FROM session.sockets"))


async def test_a_pod_that_stopped_is_seen_to_be_dead_and_its_sockets_are_buried(make_pod: MakePod, sql: Sql) -> None:
    stopped, *others = [await make_pod(name, f"{name}:80") for name in ("a", "b", "c")]
    await add_session_of(sql, stopped.pod_id)
    async with alive(*others):

        async def is_buried() -> bool:
            return await session_status(sql) == ("RECONNECTING", 0)

        await eventually(is_buried, within_s=SEEN_WITHIN_S, what="the burial")
    assert await dead(sql) == {stopped.pod_id}


async def test_a_pod_that_was_taken_for_dead_goes_on_as_a_new_incarnation(make_pod: MakePod, sql: Sql) -> None:
    frozen, other = await make_pod("a", "a:80"), await make_pod("b", "b:80")
    former = frozen.pod_id
    async with alive(other):

        async def is_dead() -> bool:
            return former in await dead(sql)

        await eventually(is_dead, within_s=SEEN_WITHIN_S, what="the death")
        await frozen.round()  # it thaws
        assert frozen.pod_id != former
        assert frozen.pod_id.partition("#")[0] == "a"
        async with alive(frozen):
            beat = await sql.fetchval("SELECT beat FROM session.pods WHERE pod_id = $1", other.pod_id)

            async def has_looked_long_enough() -> bool:
                now = await sql.fetchval("SELECT beat FROM session.pods WHERE pod_id = $1", other.pod_id)
                return bool(now > beat + 6)

            await eventually(has_looked_long_enough, within_s=SEEN_WITHIN_S, what="two leases")
    assert await dead(sql) == {former}


async def test_two_pods_of_one_name_at_different_ports_leave_each_other_alone(make_pod: MakePod, sql: Sql) -> None:
    one, two = await make_pod("pod", "0.0.0.0:8001"), await make_pod("pod", "0.0.0.0:8002")
    await add_session_of(sql, one.pod_id)
    await one.succeed()
    await two.succeed()
    assert await dead(sql) == set()
    assert await session_status(sql) == ("ACTIVE", 1)


async def test_a_restart_at_the_same_address_succeeds_its_predecessor_at_once(make_pod: MakePod, sql: Sql) -> None:
    killed = await make_pod("pod", "0.0.0.0:8001")
    await add_session_of(sql, killed.pod_id)
    restarted = await make_pod("pod", "0.0.0.0:8001")
    await restarted.succeed()
    assert await dead(sql) == {killed.pod_id}
    assert await session_status(sql) == ("RECONNECTING", 0)


async def test_a_pod_that_died_a_moment_ago_does_not_keep_another_from_being_last(
    make_pod: MakePod, sql: Sql
) -> None:
    last, killed = await make_pod("a", "a:80"), await make_pod("b", "b:80")
    await killed.round()
    async with alive(last):
        assert await last.start_draining() is False
        async with asyncio.timeout(SEEN_WITHIN_S):
            assert await last.confirm_last(soon()) is True
    assert await dead(sql) == {killed.pod_id}


async def test_a_live_pod_is_heard_of_and_keeps_another_from_being_last(make_pod: MakePod, sql: Sql) -> None:
    leaving, live = await make_pod("a", "a:80"), await make_pod("b", "b:80")
    async with alive(leaving, live):
        assert await leaving.start_draining() is False
        with Stalls() as stalls:
            began_s = time.monotonic()
            assert await leaving.confirm_last(soon()) is False
            assert stalls.took_s(began_s) < LEASE_S  # within a round, not after a lease
    assert await dead(sql) == set()


async def test_of_pods_that_drain_at_once_all_are_last_in_the_end(make_pod: MakePod) -> None:
    pods = [await make_pod(name, f"{name}:80") for name in ("a", "b", "c")]
    async with alive(*pods):
        first = await asyncio.gather(*(pod.start_draining() for pod in pods))
        assert sorted(map(bool, first)) == [False, False, True]
        assert await asyncio.gather(*(pod.confirm_last(soon()) for pod in pods)) == [True, True, True]


async def test_a_pod_that_comes_during_the_decision_keeps_another_from_being_last(make_pod: MakePod) -> None:
    leaving = await make_pod("a", "a:80")
    assert await leaving.start_draining() is True
    await make_pod("b", "b:80")
    assert await leaving.confirm_last(soon()) is False


async def test_a_new_incarnation_of_a_pod_that_drains_drains(make_pod: MakePod, sql: Sql) -> None:
    draining = await make_pod("a", "a:80")
    assert await draining.start_draining() is True
    await sql.execute("UPDATE session.pods SET dead = TRUE")
    await draining.round()
    row = await sql.fetchrow("SELECT draining, dead FROM session.pods WHERE pod_id = $1", draining.pod_id)
    assert tuple(row or ()) == (True, False)


async def test_a_pod_that_leaves_leaves_nothing(make_pod: MakePod, sql: Sql) -> None:
    leaving = await make_pod("a", "a:80")
    await add_session_of(sql, leaving.pod_id)
    await leaving.leave()
    assert await sql.fetchval("SELECT count(*) FROM session.pods") == 0
    assert await session_status(sql) == ("RECONNECTING", 0)
