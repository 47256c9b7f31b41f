"""The cache of active sessions while Redis, a pod or PostgreSQL fails.

No answer is older than a write that was answered before, and no entry stays wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import redis.asyncio as redis_asyncio

from session_service.local.valkey import EmbeddedValkey
from session_service.named_sessions.cache import SETTLED_KEY
from session_service.named_sessions.cache_trust import mark_of
from tests.integration.named_sessions.conftest import MakePod
from tests.support.active_sessions import ActiveSessions
from tests.support.named_client import NamedClient
from tests.support.process_faults import frozen
from tests.support.servers import Database
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

KEY = "session:active:user:1"
STALE = "00000000-0000-4000-8000-000000000000"
SLOWEST_S = 3.0


@pytest.fixture
async def way(valkey: EmbeddedValkey) -> AsyncIterator[TcpProxy]:
    """A pod's way to Redis."""
    async with TcpProxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
async def database_way(database: Database) -> AsyncIterator[TcpProxy]:
    """A pod's way to PostgreSQL."""
    async with TcpProxy(database.port) as proxy:
        yield proxy


async def contents(redis: redis_asyncio.Redis) -> dict[str | bytes, str | bytes | None]:
    return {key: await redis.get(key) for key in await redis.keys("session:active:*")}


async def hits(pod: Service, client: NamedClient) -> None:
    """Wait until lookups are answered from the cache again."""
    registry = pod.server.metrics.registry

    async def is_hit() -> bool:
        labels = {"result": "hit"}
        before = registry.get_sample_value("session_active_session_lookups_total", labels) or 0.0
        await client.active()
        return (registry.get_sample_value("session_active_session_lookups_total", labels) or 0.0) > before

    await eventually(is_hit, within_s=10, what="a lookup that the cache answers")


async def test_a_writer_that_dies_after_its_commit_leaves_no_wrong_entry(pod: Service, truth: ActiveSessions) -> None:
    """Nor do lookups, each of which makes the entry live longer, keep it alive."""
    client = NamedClient(pod)
    first = await client.create("first")
    second = await pod.server._database.named_sessions.create(1, "second")  # committed, and no more
    assert await truth.cached(1) == first

    async def is_right() -> bool:
        return await client.active() == second.id

    await eventually(is_right, within_s=5, what="the committed session")
    await truth.come_to_rest()


async def test_a_writer_that_dies_while_somebody_leaves_a_transaction_open(
    pod: Service, truth: ActiveSessions, sql: Sql
) -> None:
    """A backfill or a forgotten session, anywhere in the cluster, keeps nobody's wrong entry alive."""
    client = NamedClient(pod)
    first = await client.create("first")
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("SELECT pg_current_xact_id()")
    try:
        for title in ("second", "third"):
            made = await pod.server._database.named_sessions.create(1, title)  # committed, and no more
            assert await truth.cached(1) == first

            async def is_right(session_id: str | None = made.id) -> bool:
                return await client.active() == session_id

            await eventually(is_right, within_s=5, what="the committed session")
            first = str(made.id)
    finally:
        await transaction.rollback()
    await truth.come_to_rest()


async def test_a_write_that_cannot_reach_redis_is_seen_by_every_pod(
    make_pod: MakePod, way: TcpProxy, truth: ActiveSessions
) -> None:
    """One pod is cut off from Redis, where another still finds the entry that the write should have replaced."""
    cut_off, other = await make_pod("pod-1", REDIS_PORT=str(way.port)), await make_pod("pod-2")
    here, there = NamedClient(cut_off), NamedClient(other)
    ids = {title: await here.create(title) for title in ("a", "b")}
    for pod in (cut_off, other):
        await truth.is_believed(pod)
    way.refuse()
    way.reset()
    for title in "abababab":
        await here.switch(title)
        assert {await here.active(), await there.active()} == {ids[title]}
    await way.accept()
    await truth.come_to_rest()
    await hits(cut_off, here)
    assert {await here.active(), await there.active()} == {ids["b"]}


async def test_a_frozen_redis_that_thaws_with_old_contents(
    make_pod: MakePod, valkey: EmbeddedValkey, truth: ActiveSessions
) -> None:
    pods = [await make_pod("pod-1"), await make_pod("pod-2")]
    for pod in pods:
        await truth.is_believed(pod)
    clients = [NamedClient(pod) for pod in pods]
    ids = {title: await clients[0].create(title) for title in ("a", "b")}
    with frozen(valkey.pid):
        longest_s = 0.0
        for title in "abaabba":
            started = time.monotonic()
            await clients[0].switch(title)
            longest_s = max(longest_s, time.monotonic() - started)
            assert {await client.active() for client in clients} == {ids[title]}
        assert longest_s < SLOWEST_S
    for _ in range(20):
        assert {await client.active() for client in clients} == {ids["a"]}
    await truth.come_to_rest()
    for pod, client in zip(pods, clients, strict=True):
        await hits(pod, client)


async def test_a_redis_that_was_never_there(make_pod: MakePod, truth: ActiveSessions) -> None:
    pods = [await make_pod(f"pod-{number}", REDIS_PORT="1") for number in (1, 2)]
    clients = [NamedClient(pod) for pod in pods]
    ids = {title: await clients[0].create(title) for title in ("a", "b")}
    for title in "abab":
        await clients[1].switch(title)
        assert {await client.active() for client in clients} == {ids[title]}
    await truth.check_rules()


async def test_a_redis_that_was_emptied(pod: Service, truth: ActiveSessions, redis: redis_asyncio.Redis) -> None:
    client = NamedClient(pod)
    for title in ("a", "b", "c"):
        session_id = await client.create(title)
        await redis.flushall()
        assert await client.active() == session_id
    await truth.come_to_rest()
    await hits(pod, client)
    assert await truth.cached(1) == await truth.of(1)


async def test_a_redis_that_is_killed_and_comes_back_empty(
    make_pod: MakePod, valkey: EmbeddedValkey, truth: ActiveSessions, redis: redis_asyncio.Redis
) -> None:
    pod = await make_pod("pod-1")
    await truth.is_believed(pod)
    client = NamedClient(pod)
    ids = {title: await client.create(title) for title in ("a", "b")}
    await valkey.stop()
    for title in "abab":
        await client.switch(title)
        assert await client.active() == ids[title]
    await valkey.start()
    await redis.connection_pool.disconnect()
    for title in "abab":
        await client.switch(title)
        assert await client.active() == ids[title]
    await truth.come_to_rest()
    await hits(pod, client)


@pytest.mark.parametrize("transaction_open", [False, True])
async def test_a_redis_that_was_rolled_back(
    pod: Service, truth: ActiveSessions, redis: redis_asyncio.Redis, sql: Sql, transaction_open: bool
) -> None:
    """As after a failover to a replica that lags, or a restart from an old snapshot: entries, epochs and mark."""
    client = NamedClient(pod)
    if transaction_open:
        await sql.execute("BEGIN")
        await sql.execute("SELECT pg_current_xact_id()")
    await client.create("first")
    old_mark = await truth.mark()

    async def is_settled() -> bool:
        return await truth.mark() != old_mark

    await eventually(is_settled, within_s=5, what="a mark that has the first session")
    old = await contents(redis)
    second = await client.create("second")

    async def is_known() -> bool:
        """The second session is settled, and the pod has heard of it."""
        state = pod.server._named_sessions._trust.state
        mark = await truth.mark()
        return (
            state is not None and mark != old[SETTLED_KEY] and mark == mark_of(state.origin, state.settled).decode()
        )

    await eventually(is_known, within_s=5, what="a pod that knows of the second mark")
    for key, value in old.items():
        assert value is not None
        await redis.set(key, value)
    assert await client.active() == second
    await truth.come_to_rest()
    await hits(pod, client)
    assert await client.active() == second


@pytest.mark.parametrize("future", ["another-database:5:5:0", "{origin}:5:9000000000000000:0", "nonsense", None])
async def test_contents_of_a_history_that_postgresql_does_not_know_are_removed(
    pod: Service, truth: ActiveSessions, redis: redis_asyncio.Redis, future: str | None
) -> None:
    """PostgreSQL was promoted without its last commits, or restored; or the mark was evicted: epochs mean nothing."""
    client = NamedClient(pod)
    session_id = await client.create("first")
    origin = (await truth.mark()).rsplit(":", 3)[0]
    await redis.mset({KEY: STALE, "session:active:epoch:1": "99", "session:active:user:2": STALE})
    if future is None:
        await redis.delete(SETTLED_KEY)
    else:
        await redis.set(SETTLED_KEY, future.format(origin=origin))

    async def is_removed() -> bool:
        return STALE not in (await contents(redis)).values()

    await eventually(is_removed, within_s=5, what="entries that are removed")
    await truth.come_to_rest()
    await hits(pod, client)
    assert await client.active() == session_id


async def test_a_mark_of_another_type_is_removed(
    pod: Service, truth: ActiveSessions, redis: redis_asyncio.Redis
) -> None:
    """It is no failure of Redis either, which all else would be spared."""
    client = NamedClient(pod)
    session_id = await client.create("first")
    async with redis.pipeline() as steps:
        steps.delete(SETTLED_KEY)
        steps.rpush(SETTLED_KEY, "a", "list")
        await steps.execute()
    assert await client.active() == session_id

    async def is_a_mark() -> bool:
        return await redis.type(SETTLED_KEY) == "string"

    await eventually(is_a_mark, within_s=5, what="a mark in the place of the list")
    assert not pod.server._database.redis.avoided
    await hits(pod, client)
    await truth.come_to_rest()


async def test_what_a_lost_history_had_settled_does_not_count(pod: Service, truth: ActiveSessions, sql: Sql) -> None:
    """A dump that was restored in a younger cluster: transactions of its future are settled and changed users."""
    client = NamedClient(pod)
    await client.create("first")
    await sql.execute("UPDATE session.named_session_users SET changed_in = '9000000000000000'")
    await sql.execute("UPDATE session.named_session_cache SET settled = '9000000000000000:9000000000000000:'")
    second = await pod.server._database.named_sessions.create(1, "second")  # committed, and no more

    async def is_right() -> bool:
        return await client.active() == second.id

    await eventually(is_right, within_s=5, what="the committed session")
    await hits(pod, client)
    await truth.come_to_rest()
    assert await client.active() == second.id


async def test_a_commit_whose_answer_was_lost(
    make_pod: MakePod, truth: ActiveSessions, sql: Sql, redis: redis_asyncio.Redis
) -> None:
    """The statement is held up behind another's lock, the caller is told 503, and then it happens after all."""
    pod = await make_pod("pod-1")
    await truth.is_believed(pod)
    client = NamedClient(pod)
    await client.create("first")
    second = await client.create("second")
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("SELECT 1 FROM session.named_session_users WHERE user_id = 1 FOR UPDATE")
    switching = asyncio.create_task(client.try_switch("first"))

    async def is_held_up() -> bool:
        return bool(await redis.get(KEY)) and await waiting_for_locks(sql) > 0

    await eventually(is_held_up, within_s=5, what="a switch that waits for the lock")
    status, _body = await switching
    assert status == 503
    await transaction.rollback()
    assert await truth.of(1) in {second, (await client.sessions())[0]["id"]}
    await truth.come_to_rest()


async def waiting_for_locks(sql: Sql) -> int:
    count: int = await sql.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return count


async def test_lookups_that_wait_for_postgresql_leave_connections_for_looks(
    pod: Service, database: Database, sql: Sql
) -> None:
    """Else the cache would not be believed any more, and each lookup would ask a PostgreSQL that is slow already."""
    blocker = await asyncpg.connect(database.owner_dsn)
    registry, labels = pod.server.metrics.registry, {"operation": "look_at_named_session_cache"}

    def looks() -> float:
        return registry.get_sample_value("session_db_operation_duration_seconds_count", labels) or 0.0

    try:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE public.sessions")
            lookups = [asyncio.create_task(NamedClient(pod, user_id).try_active()) for user_id in range(100, 140)]

            async def is_held_up() -> bool:
                return await waiting_for_locks(sql) > 0

            await eventually(is_held_up, within_s=5, what="lookups that wait")
            before = looks()

            async def goes_on() -> bool:
                return looks() >= before + 4 or any(lookup.done() for lookup in lookups)

            await eventually(goes_on, within_s=5, what="looks, while the lookups wait")
            assert not any(lookup.done() for lookup in lookups)
    finally:
        await blocker.close()
    assert {status for status, _body in await asyncio.gather(*lookups)} == {404}


async def test_without_postgresql_nothing_is_guessed(
    make_pod: MakePod, database_way: TcpProxy, truth: ActiveSessions
) -> None:
    pod = await make_pod("pod-1", DB_PORT=str(database_way.port))
    await truth.is_believed(pod)
    client = NamedClient(pod)
    session_id = await client.create("first")
    database_way.refuse()
    database_way.reset()

    async def is_refused() -> bool:
        return (await client.try_active())[0] == 503

    await eventually(is_refused, within_s=5, what="503")
    await database_way.accept()
    await truth.is_believed(pod)
    assert await client.active() == session_id
