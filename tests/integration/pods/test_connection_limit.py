"""Eight connections of a session over all pods; at the ninth the most silent one goes (docs/protocol.md)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.integration.pods.conftest import ROUNDS, MakePods, Way
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import Client, connect


async def fill(exits: AsyncExitStack, pods: list[Service], counts: tuple[int, ...]) -> list[Client]:
    return [
        await exits.enter_async_context(connect(pod, clientId=f"{pod.port}-{number}"))
        for pod, count in zip(pods, counts, strict=True)
        for number in range(count)
    ]


async def test_the_ninth_evicts_the_most_silent_one_wherever_it_is(make_pods: MakePods, sql: Sql, way: Way) -> None:
    pods = await make_pods(3, way)
    async with AsyncExitStack() as exits:
        clients = await fill(exits, pods, (3, 3, 2))
        silent = clients[4]
        for client in clients:
            if client is not silent:
                await client.ask("request_session")
        for pod in pods:
            await pod.server._websockets.socket_round()  # else only after a third of the lease
        ninth = await exits.enter_async_context(connect(pods[0], clientId="ninth"))
        assert await silent.close_code() == 4504
        assert silent.frames[-1]["reason"] == "connection_limit"
        for client in [*clients, ninth]:
            if client is not silent:
                assert (await client.ask("request_session"))["type"] == "session_info"

        async def eight_count() -> bool:
            return bool(await sql.fetchval("SELECT count(*) FROM session.sockets") == 8)

        await eventually(eight_count, within_s=20, what="eight rows")
        assert await sql.fetchval("SELECT metadata ->> 'frontend_connections' FROM session.session_metadata") == "8"


async def test_connections_of_pods_that_go_do_not_count(make_pods: MakePods, sql: Sql) -> None:
    pods = await make_pods(2, ROUNDS)
    async with AsyncExitStack() as exits:
        clients = await fill(exits, pods, (3, 5))
        await sql.execute("UPDATE session.pods SET draining = TRUE WHERE pod_name = 'pod-1'")
        clients += [
            await exits.enter_async_context(connect(pods[1], clientId=f"more-{number}")) for number in range(3)
        ]
        for client in clients:
            assert (await client.ask("request_session"))["type"] == "session_info"


async def test_only_crowded_sessions_write_when_they_were_heard(make_pods: MakePods, sql: Sql) -> None:
    pods = await make_pods(2, ROUNDS)
    async with AsyncExitStack() as exits:
        await fill(exits, pods, (3, 3))
        for pod in pods:
            await pod.server._socket_round()
        crowded = "SELECT count(heard_at) FROM session.sockets"
        assert await sql.fetchval(crowded) == 0
        seventh = await exits.enter_async_context(connect(pods[1], clientId="seventh"))
        assert await sql.fetchval(crowded) == 7
        await seventh.socket.close()

        async def is_over() -> bool:
            return bool(await sql.fetchval(crowded) == 0)

        await eventually(is_over, within_s=20, what="nobody's time is written any more")


async def test_many_at_once_on_three_pods_leave_eight(make_pods: MakePods, sql: Sql, way: Way) -> None:
    pods = await make_pods(3, way)
    opening = await asyncio.gather(*(pod.http.get("/health") for pod in pods))
    for response in opening:
        response.close()
    over = asyncio.Event()

    async def one(number: int) -> int | None:
        async with connect(pods[number % 3], clientId=f"tab-{number}") as client:
            reading = asyncio.ensure_future(client.close_code())
            ending = asyncio.ensure_future(over.wait())
            await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if reading.done():
                return await reading
            reading.cancel()
            return None

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(one(number)) for number in range(18)]

        async def eight_are_left() -> bool:
            return sum(client.done() for client in clients) == 10

        async def eight_count() -> bool:
            return bool(await sql.fetchval("SELECT count(*) FROM session.sockets WHERE NOT evicted") == 8)

        await eventually(eight_are_left, within_s=30, what="ten closed")
        await eventually(eight_count, within_s=20, what="eight rows")  # a client knows of its end before PostgreSQL
        over.set()
    assert [client.result() for client in clients].count(4504) == 10
