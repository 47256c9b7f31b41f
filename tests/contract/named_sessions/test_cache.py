"""Document 004, "Caching Strategy" and "Redis Setup": the key as it is written there, and answers without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.metrics_reader import metric_total
from tests.support.named_client import NamedClient, random_user
from tests.support.servers import Database, TestServers
from tests.support.service import Service
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOOKUPS = "session_active_session_lookups_total"
TTL_S = 3600
SHORT_TTL_S = 60
FELT_S = 1.0  # what a dead Redis may cost a call on a busy machine; its own limit is 0.25 s


@pytest_asyncio.fixture(loop_scope="module")
async def redis(servers: TestServers) -> AsyncIterator[Redis]:
    async with Redis.from_url(servers.valkey.url(), decode_responses=True) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def proxy(servers: TestServers) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(urlsplit(servers.valkey.url()).port or 0) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def user_behind_proxy(servers: TestServers, database: Database, proxy: TcpProxy) -> AsyncIterator[NamedClient]:
    """Of a pod that reaches Redis through ``proxy`` only."""
    environ = {**database.environ(), **servers.redis_environ(), "REDIS_PORT": str(proxy.port), "POD_NAME": "pod-2"}
    async with Service(environ) as service:
        yield NamedClient(service, random_user())


def key(user: NamedClient) -> str:
    return f"session:active:user:{user.user_id}"


# A pod that was held up for half a second asks PostgreSQL instead, as it may have missed that the cache is in doubt:
# so a lookup that is to be seen in Redis is made again.


async def cached(redis: Redis, user: NamedClient, session_id: str) -> None:
    """Wait until the key holds this id. The write may come after the answer."""

    async def holds() -> bool:
        return str(await redis.get(key(user))) == session_id

    await eventually(holds, within_s=5, what=f"{key(user)} is {session_id}")


# --- the key -------------------------------------------------------------------------------------------------------


async def test_a_new_sessions_id_is_cached_as_a_bare_uuid(user: NamedClient, redis: Redis) -> None:
    await cached(redis, user, await user.create("A"))


async def test_a_switch_updates_the_cache(user: NamedClient, redis: Redis) -> None:
    first, second = await user.create("A"), await user.create("B")
    await cached(redis, user, second)
    await user.call("POST", "/active/A")
    await cached(redis, user, first)


async def test_what_is_cached_lives_for_an_hour(user: NamedClient, redis: Redis) -> None:
    await cached(redis, user, await user.create("A"))
    assert TTL_S - 60 < await redis.ttl(key(user)) <= TTL_S


async def test_a_lookup_lets_it_live_for_another_hour(user: NamedClient, redis: Redis) -> None:
    session_id = await user.create("A")
    await cached(redis, user, session_id)
    await redis.expire(key(user), 100)

    async def lives_longer() -> bool:
        assert await user.active() == session_id
        ttl_s: int = await redis.ttl(key(user))
        return TTL_S - 60 < ttl_s <= TTL_S

    await eventually(lives_longer, within_s=5, what="the time to live of the key begins anew")


async def test_how_long_it_lives_can_be_configured(servers: TestServers, database: Database, redis: Redis) -> None:
    settings = {"ACTIVE_SESSION_CACHE_TTL_SECONDS": str(SHORT_TTL_S), "POD_NAME": "pod-2"}
    async with Service({**database.environ(), **servers.redis_environ(), **settings}) as service:
        user = NamedClient(service, random_user())
        await cached(redis, user, await user.create("A"))
        assert 0 < await redis.ttl(key(user)) <= SHORT_TTL_S


# --- first the cache, then the database ----------------------------------------------------------------------------


async def test_lookups_ask_the_cache_first(user: NamedClient, service: Service, redis: Redis) -> None:
    """The database is not asked for what the cache has: the pod counts it as a hit."""
    session_id = await user.create("A")
    await cached(redis, user, session_id)

    async def is_hit() -> bool:
        before = await metric_total(service, LOOKUPS, result="hit")
        assert await user.active() == session_id
        return await metric_total(service, LOOKUPS, result="hit") == before + 1

    await eventually(is_hit, within_s=10, what="the lookup is a hit")


async def test_what_the_cache_has_lost_comes_from_the_database_and_is_cached_again(
    user: NamedClient, redis: Redis
) -> None:
    session_id = await user.create("A")
    await cached(redis, user, session_id)
    await redis.delete(key(user))

    async def is_back() -> bool:
        assert await user.active() == session_id
        return str(await redis.get(key(user))) == session_id

    await eventually(is_back, within_s=5, what="the lookup puts it there again")


async def test_an_emptied_redis_changes_no_answer(user: NamedClient, redis: Redis) -> None:
    first, second = await user.create("A"), await user.create("B")
    await redis.flushall()
    assert await user.active() == second
    await user.call("POST", "/active/A")
    await redis.flushall()
    assert await user.active() == first


async def test_that_nobody_has_an_active_session_is_not_remembered(user: NamedClient) -> None:
    assert (await user.try_active())[0] == 404
    session_id = await user.create("A")
    assert await user.active() == session_id


async def test_after_writes_at_once_the_cache_holds_what_is_active(user: NamedClient, redis: Redis) -> None:
    """Never a stale id at rest (interface §5), whichever of the writers reached Redis last."""
    ids = {title: await user.create(title) for title in ("A", "B", "C")}
    await asyncio.gather(*(user.call("POST", f"/active/{title}") for title in ("A", "B", "C") * 5))
    (title,) = [title for title, active in (await user.titles()).items() if active]
    await cached(redis, user, ids[title])
    assert await user.active() == ids[title]


# --- without Redis -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True], ids=["dead", "frozen"])
async def test_without_redis_everything_works(user_behind_proxy: NamedClient, proxy: TcpProxy, frozen: bool) -> None:
    user = user_behind_proxy
    if frozen:
        proxy.go_silent()
    else:
        proxy.refuse()
        proxy.reset()
    began_s = time.monotonic()
    ids = {title: await user.create(title) for title in ("A", "B")}
    assert await user.active() == ids["B"]
    assert (await user.call("POST", "/active/A"))[0] == 200
    assert await user.active() == ids["A"]
    assert (await user.call("DELETE", "/B"))[0] == 200
    assert await user.titles() == {"A": True}
    assert time.monotonic() - began_s < 7 * FELT_S


async def test_what_changed_while_redis_was_away_is_not_answered_from_it(
    user_behind_proxy: NamedClient, proxy: TcpProxy, redis: Redis
) -> None:
    user = user_behind_proxy
    first, second = await user.create("A"), await user.create("B")
    assert await user.active() == second
    await cached(redis, user, second)
    proxy.refuse()
    proxy.reset()
    assert (await user.call("POST", "/active/A"))[0] == 200
    await proxy.accept()
    async with asyncio.timeout(20):
        # Redis is used again after a while; no answer on the way there may be the old one.
        while await redis.get(key(user)) != first:
            assert await user.active() == first
            await asyncio.sleep(0.05)
    assert await user.active() == first
