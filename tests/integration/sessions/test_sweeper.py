"""One pod sweeps for all: who holds the lease, when it changes hands, and what the rounds cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest

from session_service.database.sql_files import load_queries
from session_service.server import EXPIRE_EVERY_S
from session_service.sessions.sweeper import LEASE_S, RENEW_EVERY_S
from tests.support.api_client import ApiClient
from tests.support.servers import Database
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.stalls import Stalls
from tests.support.waiting import eventually

HOLD = load_queries()["sweeper.hold"]
SOON_S = 20.0
MakePod = Callable[..., Awaitable[Service]]
SWEEPS = frozenset(
    {"expire_sessions", "settle_sessions", "cleanup_sessions", "lease_teardowns", "stop_inactive_simulators"}
)


@pytest.fixture
def make_pod(make_service: Callable[..., Awaitable[Service]]) -> MakePod:
    async def make(number: int, lease_s: int = 2) -> Service:
        return await make_service(POD_NAME=f"pod-{number}", POD_LEASE_SECONDS=str(lease_s))

    return make


def holders(pods: Sequence[Service]) -> list[Service]:
    return [pod for pod in pods if pod.server._sweeper.holds]


def statements(pods: Sequence[Service], operations: frozenset[str]) -> int:
    """How many calls of these kinds the pods have made to PostgreSQL."""
    return sum(
        int(sample.value)
        for pod in pods
        for family in pod.server.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "session_db_operation_duration_seconds_count" and sample.labels["operation"] in operations
    )


async def shown(pod: Service) -> bool:
    async with pod.http.get("/metrics") as response:
        return "session_sweeper 1.0" in await response.text()


async def one_holds(pods: Sequence[Service]) -> Service:
    async def exactly_one() -> list[Service]:
        found = holders(pods)
        return found if len(found) == 1 else []

    return (await eventually(exactly_one, within_s=SOON_S, what="one sweeper"))[0]


async def test_one_of_several_sweeps_and_shows_it(make_pod: MakePod, sql: Sql) -> None:
    pods = [await make_pod(number) for number in range(3)]
    holder = await one_holds(pods)
    assert [pod for pod in pods if await shown(pod)] == [holder]
    assert await sql.fetchval("SELECT pod_id FROM session.sweeper") == holder.server._membership.pod_id


async def test_looks_that_coincide_give_it_to_one(database: Database, sql: Sql) -> None:
    pods = [f"pod-{number}#1" for number in range(4)]
    await sql.execute(
        "INSERT INTO session.pods (pod_id, pod_name, version) SELECT id, id, '1' FROM unnest($1::text[]) id", pods
    )
    async with asyncpg.create_pool(database.service_dsn, min_size=len(pods)) as pool:
        for free in (
            "UPDATE session.sweeper SET held_until = '-infinity'",
            "UPDATE session.sweeper SET pod_id = NULL",
            "UPDATE session.sweeper SET pod_id = 'gone#1'",
        ):
            for _ in range(20):
                await sql.execute(free)
                held = await asyncio.gather(*(pool.fetchval(HOLD, pod, LEASE_S) for pod in pods))
                assert held.count(True) == 1
                assert await sql.fetchval("SELECT pod_id FROM session.sweeper") == pods[held.index(True)]


async def lose_loops(pod: Service) -> None:
    """As a pod that is killed: its rounds end, and nothing is let go."""
    await pod.server._guard.close()


async def test_the_duties_of_a_killed_sweeper_are_taken_over(make_pod: MakePod, sql: Sql) -> None:
    pods = [await make_pod(number, lease_s=60) for number in range(2)]
    lost = await one_holds(pods)
    (other,) = (pod for pod in pods if pod is not lost)
    session_id = await ApiClient(other.http).open_session()
    with Stalls() as stalls:
        await lose_loops(lost)
        killed_at = time.monotonic()
        await eventually(lambda: _true(other.server._sweeper.holds), within_s=SOON_S, what="the lease taken")
        assert stalls.took_s(killed_at) <= LEASE_S + 2 * RENEW_EVERY_S
    assert not lost.server._sweeper.holds
    # What the lost pod had not written may still count: nothing expires until it is seen to be dead.
    await sql.execute("UPDATE session.active_sessions SET expires_at = clock_timestamp()")
    await other.server._sessions.session_ops.expire()
    assert await status(sql, session_id) == "ACTIVE"
    await sql.execute("UPDATE session.pods SET dead = TRUE WHERE pod_id = $1", lost.server._membership.pod_id)
    await eventually(lambda: has_status(sql, session_id, "EXPIRED"), within_s=SOON_S, what="expiry")


async def test_a_pod_that_drains_lets_go_at_once(make_pod: MakePod, sql: Sql) -> None:
    pods = [await make_pod(number) for number in range(2)]
    first = await one_holds(pods)
    (other,) = (pod for pod in pods if pod is not first)
    await sql.execute("UPDATE session.pods SET draining = TRUE WHERE pod_id = $1", first.server._membership.pod_id)
    # A renewal and a look, and not the time for what it holds to run out.
    await sql.execute("UPDATE session.sweeper SET held_until = now() + interval '1 h'")
    assert await one_holds(pods) in pods
    await eventually(lambda: _true(holders(pods) == [other]), within_s=SOON_S, what="handed over")


async def test_the_last_pod_sweeps_while_it_drains(service: Service, sql: Sql) -> None:
    await sql.execute("UPDATE session.pods SET draining = TRUE")
    await service.server._sweeper.renew()
    assert service.server._sweeper.holds


async def test_a_pod_without_a_row_does_not_sweep(service: Service, sql: Sql) -> None:
    await lose_loops(service)
    await sql.execute("DELETE FROM session.pods")
    await service.server._sweeper.renew()
    assert not service.server._sweeper.holds


async def test_four_idle_pods_sweep_no_more_often_than_one(make_pod: MakePod) -> None:
    """The bound is for the whole cluster, and half of what two pods would need: a slow machine only sweeps less."""
    pods = [await make_pod(number) for number in range(4)]
    await one_holds(pods)
    began = time.monotonic()
    before = statements(pods, SWEEPS)
    passes = statements(pods, frozenset({"expire_sessions"}))

    async def ten_passes() -> bool:
        return statements(pods, frozenset({"expire_sessions"})) >= passes + 10

    await eventually(ten_passes, within_s=30, what="ten rounds of expiry")
    took_s = time.monotonic() - began
    # Per round of expiry one statement that marks and one that settles; the others are at most one a second.
    shortest_s = 0.9 * EXPIRE_EVERY_S
    one_pod = 2 * (took_s / shortest_s + 1) + took_s + 3
    assert 20 <= statements(pods, SWEEPS) - before <= one_pod


async def test_gauges_of_all_pods_add_up(make_pod: MakePod, sql: Sql) -> None:
    pods = [await make_pod(number) for number in range(2)]
    for number, pod in ((1, pods[0]), (2, pods[0]), (3, pods[1])):
        await ApiClient(pod.http, f"user-{number}").open_session()
    for pod in pods:
        await pod.server._sessions.session_ops.measure()
    values = [pod.server.metrics.registry.get_sample_value("session_active_sessions") for pod in pods]
    assert values == [2, 1]
    assert sum(value or 0 for value in values) == await sql.fetchval("SELECT count(*) FROM session.active_sessions")


async def status(sql: Sql, session_id: str) -> str | None:
    found: str | None = await sql.fetchval(
        "SELECT status FROM session.active_sessions WHERE session_id = $1", session_id
    )
    return found


async def has_status(sql: Sql, session_id: str, wanted: str) -> bool:
    return await status(sql, session_id) == wanted


async def _true(answer: bool) -> bool:
    return answer
