"""Many at once over three pods: one active session always, no title twice, no 5xx; and at rest the cache agrees."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import asyncpg
import pytest

from tests.integration.named_sessions.conftest import MakePod
from tests.support.active_sessions import BROKEN_RULES, ActiveSessions
from tests.support.named_client import NamedClient
from tests.support.servers import Database
from tests.support.service import Service

ROUNDS = 25

Answer = tuple[int, Any]


@pytest.fixture
async def pods(make_pod: MakePod, truth: ActiveSessions) -> list[Service]:
    made = [await make_pod(f"pod-{number}") for number in (1, 2, 3)]
    for pod in made:
        await truth.is_believed(pod)
    return made


@pytest.fixture
async def watched(database: Database) -> AsyncIterator[None]:
    """Fails the test where the rules are seen broken at any moment of it."""
    connection = await asyncpg.connect(database.owner_dsn)
    over = asyncio.Event()
    looks = 0

    async def watch() -> list[asyncpg.Record]:
        nonlocal looks
        while True:
            broken = await connection.fetch(BROKEN_RULES)
            looks += 1
            if broken or over.is_set():
                return broken

    watching = asyncio.create_task(watch())
    yield
    over.set()
    broken = await watching
    await connection.close()
    assert not broken, broken
    assert looks > 2


def clients_of(pods: list[Service], user_id: int = 1) -> list[NamedClient]:
    return [NamedClient(pod, user_id) for pod in pods]


async def at_once(calls: Iterable[Awaitable[Answer]]) -> Counter[int]:
    """How often each status was answered."""
    return Counter(status for status, _body in await asyncio.gather(*calls))


@pytest.mark.usefixtures("watched")
async def test_200_creations_of_a_new_user(pods: list[Service], truth: ActiveSessions) -> None:
    clients = clients_of(pods)
    statuses = await at_once(clients[n % 3].try_create(f"title {n}") for n in range(200))
    assert statuses == {200: 200}
    sessions = await clients[0].sessions()
    assert {one["title"] for one in sessions} == {f"title {n}" for n in range(200)}
    assert sum(one["active"] for one in sessions) == 1
    await truth.come_to_rest()
    assert {await client.active() for client in clients} == {await truth.of(1)}


@pytest.mark.usefixtures("watched")
async def test_200_creations_of_one_title(pods: list[Service], truth: ActiveSessions) -> None:
    clients = clients_of(pods)
    statuses = await at_once(clients[n % 3].try_create("the title") for n in range(200))
    assert statuses == {200: 1, 409: 199}
    await truth.come_to_rest()


@pytest.mark.usefixtures("watched")
async def test_creations_of_many_users(pods: list[Service], truth: ActiveSessions) -> None:
    clients = [clients_of(pods, user_id) for user_id in range(1, 41)]
    statuses = await at_once(
        clients[user][n % 3].try_create(f"title {n % 4}") for n in range(5) for user in range(40)
    )
    assert statuses == {200: 160, 409: 40}
    await truth.come_to_rest()


@pytest.mark.usefixtures("watched")
async def test_switch_and_switch(pods: list[Service], truth: ActiveSessions) -> None:
    clients = clients_of(pods)
    titles = [f"title {n}" for n in range(10)]
    for title in titles:
        await clients[0].create(title)
    for _ in range(ROUNDS):
        statuses = await at_once(clients[n % 3].try_switch(title) for n, title in enumerate(titles))
        assert statuses == {200: 10}
    await truth.come_to_rest()
    assert {await client.active() for client in clients} == {await truth.of(1)}


@pytest.mark.usefixtures("watched")
async def test_delete_and_activate(pods: list[Service], truth: ActiveSessions) -> None:
    """Whichever comes first: the session is gone and was not activated, or it is active and stays."""
    clients = clients_of(pods)
    for round_number in range(ROUNDS):
        victim = f"victim {round_number}"
        await clients[0].create(victim)
        await clients[1].create(f"other {round_number}")
        (activated, _), (deleted, _) = await asyncio.gather(
            clients[round_number % 3].try_switch(victim), clients[(round_number + 1) % 3].try_delete(victim)
        )
        assert (activated, deleted) in {(200, 400), (404, 200)}
    await truth.come_to_rest()


@pytest.mark.usefixtures("watched")
async def test_everything_at_once(pods: list[Service], truth: ActiveSessions) -> None:
    clients = clients_of(pods)
    await clients[0].create("title 0")
    operations: list[Callable[[NamedClient, str], Awaitable[Answer]]] = [
        NamedClient.try_create,
        NamedClient.try_switch,
        NamedClient.try_delete,
        lambda client, _title: client.try_active(),
    ]
    statuses = await at_once(operations[n % 4](clients[n % 3], f"title {n * 7 % 11}") for n in range(200))
    assert statuses.keys() <= {200, 400, 404, 409}
    assert statuses[200] > 50
    await truth.come_to_rest()
    assert {await client.active() for client in clients} == {await truth.of(1)}


async def test_a_read_after_an_answered_write_is_never_older(pods: list[Service], truth: ActiveSessions) -> None:
    """Writers and readers of one user on three pods: what a reader is told was active after it asked, or later."""
    clients = clients_of(pods)
    ids = [await clients[0].create(f"title {n}") for n in range(3)]
    answered: list[
        str
    ] = []  # of writes, in the order of their answers; one writer, so that this is the order of writes
    over = asyncio.Event()

    async def write() -> None:
        for turn in range(90):
            await clients[turn % 3].switch(f"title {turn % 3}")
            answered.append(ids[turn % 3])
        over.set()

    async def read(client: NamedClient) -> int:
        reads = 0
        while not over.is_set():
            known = len(answered)
            found = await client.active()
            # The last one that was answered before, or one of those that came since, the one under way included.
            allowed = {*answered[max(0, known - 1) :], ids[len(answered) % 3]}
            assert found in allowed or known == 0
            reads += 1
        return reads

    reading = asyncio.gather(*(read(client) for client in clients))
    await write()
    assert min(await reading) > 10
    await truth.come_to_rest()
