"""The cache of active sessions while nothing fails: its keys, its TTL, its cost, and who wins."""

from __future__ import annotations

import uuid
from typing import Any

import redis.asyncio as redis_asyncio

from session_service.domain.named_session import ActiveSession
from session_service.named_sessions.cache import ActiveSessionCache, CacheRead
from tests.integration.named_sessions.conftest import MakePod
from tests.support.active_sessions import ActiveSessions
from tests.support.named_client import NamedClient
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually

KEY = "session:active:user:1"


def cache_of(pod: Service) -> ActiveSessionCache:
    return ActiveSessionCache(pod.server._database.redis, ttl_s=3600)


async def script_calls(redis: redis_asyncio.Redis) -> int:
    stats: dict[str, Any] = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


def statements(pod: Service, operation: str) -> float:
    name, labels = "session_db_operation_duration_seconds_count", {"operation": operation}
    return pod.server.metrics.registry.get_sample_value(name, labels) or 0.0


def lookups(pod: Service) -> list[float]:
    """Hits, misses and bypasses so far."""
    registry, name = pod.server.metrics.registry, "session_active_session_lookups_total"
    return [registry.get_sample_value(name, {"result": result}) or 0.0 for result in ("hit", "miss", "bypass")]


async def test_a_new_session_is_cached_bare_with_its_ttl(pod: Service, redis: redis_asyncio.Redis) -> None:
    session_id = await NamedClient(pod).create("first")
    assert await redis.get(KEY) == session_id
    assert 3590 < await redis.ttl(KEY) <= 3600


async def test_a_read_refreshes_the_ttl(make_pod: MakePod, truth: ActiveSessions, redis: redis_asyncio.Redis) -> None:
    pod = await make_pod("pod-1", ACTIVE_SESSION_CACHE_TTL_SECONDS="500")
    await truth.is_believed(pod)
    client = NamedClient(pod)
    session_id = await client.create("first")
    await redis.expire(KEY, 7)
    assert await client.active() == session_id
    assert 490 < await redis.ttl(KEY) <= 500


async def test_a_hit_is_one_round_trip_to_redis_and_none_to_postgresql(
    pod: Service, redis: redis_asyncio.Redis
) -> None:
    client = NamedClient(pod)
    await client.create("first")
    await client.active()
    before, asked, counted = await script_calls(redis), statements(pod, "get_active_named_session"), lookups(pod)
    for _ in range(20):
        await client.active()
    hits, misses, bypasses = (now - then for now, then in zip(lookups(pod), counted, strict=True))
    # A pod that was not scheduled for so long does not believe the cache for a moment.
    assert (hits + bypasses, misses) == (20, 0)
    assert hits > 0
    assert statements(pod, "get_active_named_session") - asked == bypasses
    # The repair may have written the new session once more.
    assert await script_calls(redis) - before - hits in {0, 1}


async def test_a_creation_is_one_round_trip_to_each(pod: Service, redis: redis_asyncio.Redis, sql: Sql) -> None:
    client = NamedClient(pod)
    await client.create("first")
    before, asked = await script_calls(redis), statements(pod, "create_named_session")
    await client.create("second")
    assert await script_calls(redis) - before in {1, 2}
    assert statements(pod, "create_named_session") - asked == 1


async def test_a_miss_is_filled(pod: Service, truth: ActiveSessions, redis: redis_asyncio.Redis) -> None:
    client = NamedClient(pod)
    session_id = await client.create("first")
    await redis.delete(KEY)
    assert await client.active() == session_id
    assert await truth.cached(1) == session_id


async def test_what_is_no_id_is_a_miss(pod: Service, truth: ActiveSessions, redis: redis_asyncio.Redis) -> None:
    client = NamedClient(pod)
    session_id = await client.create("first")
    for write in (redis.set(KEY, "nonsense"), redis.set(KEY, b"\xff" * 36), redis.lpush(KEY, "a", "list")):
        await redis.delete(KEY)
        await write
        assert await client.active() == session_id
        assert await truth.cached(1) == session_id


async def test_a_user_without_sessions_leaves_nothing_in_redis(pod: Service, redis: redis_asyncio.Redis) -> None:
    assert (await NamedClient(pod).try_active())[0] == 404
    assert not await redis.keys("session:active:*:1")


async def test_a_late_fill_does_not_overwrite_a_switch(pod: Service, truth: ActiveSessions) -> None:
    """A reader misses and asks PostgreSQL; a writer switches; then the reader fills in what it was told."""
    client, cache = NamedClient(pod), cache_of(pod)
    await client.create("first")
    second = await client.create("second")
    await client.switch("first")
    read = await cache.read(1)
    (told,) = await pod.server._database.named_sessions.active([1])
    assert read is not None
    await client.switch("second")
    await cache.fill(1, told, read)
    assert await truth.cached(1) == second


async def test_a_late_fill_does_nothing_where_the_epoch_was_lost(
    pod: Service, truth: ActiveSessions, redis: redis_asyncio.Redis
) -> None:
    client, cache = NamedClient(pod), cache_of(pod)
    await client.create("first")
    read = await cache.read(1)
    (told,) = await pod.server._database.named_sessions.active([1])
    await client.create("second")
    await redis.flushall()
    assert read is not None
    held_up = CacheRead(read.session_id, read.settled, read.at_ms - 600)
    await cache.fill(1, told, held_up)
    assert await truth.cached(1) is None


async def test_of_two_writers_the_later_commit_stays(pod: Service, truth: ActiveSessions) -> None:
    client, cache = NamedClient(pod), cache_of(pod)
    await client.create("first")
    repository = pod.server._database.named_sessions
    earlier, later = await repository.create(1, "second"), await repository.create(1, "third")
    assert await cache.put(1, later, age_s=0.0)
    assert await cache.put(1, earlier, age_s=0.0)
    assert await truth.cached(1) == later.id


async def test_a_writer_that_was_held_up_leaves_no_entry_where_the_epoch_was_lost(
    pod: Service, truth: ActiveSessions, redis: redis_asyncio.Redis
) -> None:
    cache = cache_of(pod)
    stale = ActiveSession(str(uuid.uuid4()), 1)
    await redis.set(KEY, str(stale.id))
    assert await cache.put(1, stale, age_s=2.0)
    assert await truth.cached(1) is None


async def test_another_pod_sees_each_switch_at_once(make_pod: MakePod, truth: ActiveSessions) -> None:
    pods = [await make_pod(f"pod-{number}") for number in range(1, 4)]
    for pod in pods:
        await truth.is_believed(pod)
    clients = [NamedClient(pod) for pod in pods]
    ids = {title: await clients[0].create(title) for title in ("a", "b", "c")}
    for turn in range(60):
        title = "abc"[turn % 3]
        await clients[turn % 2].switch(title)
        assert {await client.active() for client in clients} == {ids[title]}
    await truth.come_to_rest()


async def test_plain_sql_is_seen_soon(pod: Service, truth: ActiveSessions, sql: Sql) -> None:
    client = NamedClient(pod)
    await client.create("first")
    await client.create("second")
    await sql.execute("UPDATE public.sessions SET active = FALSE WHERE active")
    await sql.execute("UPDATE public.sessions SET active = TRUE WHERE title = 'first'")
    await truth.come_to_rest()
    assert await client.active() == await truth.of(1)
    await sql.execute("DELETE FROM public.sessions WHERE active")

    async def is_gone() -> bool:
        return await truth.cached(1) is None

    await eventually(is_gone, within_s=5, what="an entry that is gone")
    assert (await client.try_active())[0] == 404
