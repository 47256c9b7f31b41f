"""Who stays of a client's sockets, over two pods: the highest attempt, and of equal ones the newest."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from session_service.database.sql_files import load_queries
from tests.support.servers import Database

SESSION = "session-1"
PODS = ("pod-1", "pod-2")
LIMIT = 8  # connections of one session
QUERIES = load_queries()


@dataclass(frozen=True)
class Socket:
    pod: str
    client: str
    attempt: int
    arrival: int

    @property
    def rank(self) -> tuple[int, int]:
        return self.attempt, self.arrival


class SharedTable:
    """Two pods' calls on ``session.sockets``, and which sockets each of them has open."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.open: set[Socket] = set()
        self.refused: list[tuple[str, int]] = []

    async def connect(self, pod: str, client: str, attempt: int, *, lost_replies: int, delay_s: float) -> None:
        """An upgrade, perhaps delayed; the statement is repeated where its reply was lost."""
        await asyncio.sleep(delay_s)
        for _ in range(lost_replies + 1):
            row = await self.pool.fetchrow(
                "SELECT * FROM session.open_socket($1, $2, $3, $4, 'websocket', interval '1 hour', '{}', NULL, $5)",
                SESSION,
                client,
                pod,
                attempt,
                LIMIT,
            )
        assert row is not None
        if row["outcome"] == "replaced":
            self.refused.append((client, attempt))
            return
        assert row["outcome"] == "opened"
        socket = Socket(pod, client, attempt, row["opened_arrival"])
        self.open.add(socket)
        if row["connections"] > LIMIT:
            await self.pool.fetch(
                "SELECT * FROM session.evict_sockets($1, $2, $3, '{}', '{}')", SESSION, socket.arrival, LIMIT
            )

    async def close(self, socket: Socket, *, replies: int = 1, had_its_first_frame: bool = False) -> None:
        self.open.discard(socket)
        if not had_its_first_frame:
            await self.pool.execute(QUERIES["sockets.reinstate"], SESSION, socket.client)
        for _ in range(replies):
            await self.pool.fetchval(
                "SELECT session.close_socket($1, $2, $3, FALSE, '{}')", SESSION, socket.client, socket.arrival
            )

    async def round(self, pod: str) -> set[Socket]:
        """A pod looks after its sockets; those that it closes."""
        mine = {socket.arrival: socket for socket in self.open if socket.pod == pod}
        lost = await self.pool.fetch(
            "SELECT * FROM session.assert_sockets($1, $2, $3, $4, $5, $6, interval '0 s')",
            pod,
            [SESSION] * len(mine),
            [socket.client for socket in mine.values()],
            list(mine),
            [socket.attempt for socket in mine.values()],
            ["websocket"] * len(mine),
        )
        closed = {mine[row["lost_arrival"]] for row in lost}
        for socket in closed & self.open:
            await self.close(socket)
        return closed

    def socket(self, pod: str, client: str, attempt: int) -> Socket:
        (found,) = {one for one in self.open if (one.pod, one.client, one.attempt) == (pod, client, attempt)}
        return found

    async def rows(self) -> list[asyncpg.Record]:
        return list(await self.pool.fetch("SELECT * FROM session.sockets WHERE NOT evicted"))


@pytest.fixture
async def table(database: Database) -> AsyncIterator[SharedTable]:
    async with asyncpg.create_pool(database.owner_dsn, min_size=4, max_size=4) as pool:
        for pod in PODS:
            await pool.execute("INSERT INTO session.pods (pod_id, pod_name, version) VALUES ($1, $1, '1')", pod)
        await pool.fetchrow(
            "SELECT outcome FROM session.open_session($1, 'user-1', 'device-1', interval '1 hour', 10, '{}', $2)",
            SESSION,
            PODS[0],
        )
        yield SharedTable(pool)


async def some_life(table: SharedTable, random_: random.Random, clients: int) -> None:
    """Connections, ends, rounds and losses of the table, several at a time."""
    attempts: dict[str, int] = {}

    def connecting() -> asyncio.Future[None]:
        client = f"client-{random_.randrange(clients)}"
        before = attempts.get(client, 0)
        attempt = max(0, before + random_.choice((-1, 0, 1, 1)))  # late, doubled, or as it should be
        attempts[client] = max(before, attempt)
        return asyncio.ensure_future(
            table.connect(
                random_.choice(PODS),
                client,
                attempt,
                lost_replies=random_.choice((0, 0, 1)),
                delay_s=random_.choice((0.0, 0.0, 0.002, 0.01)),
            )
        )

    for _ in range(12):
        happening: list[asyncio.Future[Any]] = [connecting() for _ in range(random_.randrange(1, 5))]
        if table.open and random_.random() < 0.3:
            socket = random_.choice(sorted(table.open, key=lambda one: one.rank))
            happening.append(asyncio.ensure_future(table.close(socket, replies=2)))
        if random_.random() < 0.4:
            happening.append(asyncio.ensure_future(table.round(random_.choice(PODS))))
        if random_.random() < 0.1:
            happening.append(asyncio.ensure_future(table.pool.execute("DELETE FROM session.sockets")))
        await asyncio.gather(*happening)


@pytest.mark.parametrize("seed", range(6))
async def test_the_highest_attempt_stays_and_nobody_takes_turns(table: SharedTable, seed: int) -> None:
    await some_life(table, random.Random(seed), clients=4)
    best: dict[str, Socket] = {}
    for socket in table.open:
        best[socket.client] = max(socket, best.get(socket.client, socket), key=lambda one: one.rank)
    for pod in PODS * 2:
        await table.round(pod)
    assert table.open == set(best.values())
    assert {(row["client_id"], row["arrival"], row["pod_id"]) for row in await table.rows()} == {
        (socket.client, socket.arrival, socket.pod) for socket in best.values()
    }
    for pod in PODS:
        assert not await table.round(pod), "settled is settled"


async def test_never_more_than_eight_over_both_pods(table: SharedTable) -> None:
    random_ = random.Random(3)
    arriving = [
        table.connect(random_.choice(PODS), f"client-{number}", 0, lost_replies=0, delay_s=0) for number in range(30)
    ]
    await asyncio.gather(*arriving)
    assert len(await table.rows()) == LIMIT
    for pod in PODS * 2:
        await table.round(pod)
    assert {row["arrival"] for row in await table.rows()} == {socket.arrival for socket in table.open}
    assert len(table.open) == LIMIT


async def test_a_late_upgrade_of_an_earlier_attempt_is_refused_on_either_pod(table: SharedTable) -> None:
    await table.connect(PODS[0], "client-1", 5, lost_replies=0, delay_s=0)
    for pod in PODS:
        await table.connect(pod, "client-1", 4, lost_replies=1, delay_s=0)
    assert table.refused == [("client-1", 4)] * 2
    assert [row["attempt"] for row in await table.rows()] == [5]


@pytest.mark.parametrize("attempt", [0, 1], ids=["same attempt", "next attempt"])
async def test_what_was_superseded_elsewhere_does_not_come_back(table: SharedTable, attempt: int) -> None:
    """The pod of the older socket heard of nothing, and the newer one, which streamed, is over before it looks."""
    await table.connect(PODS[1], "client-1", 0, lost_replies=0, delay_s=0)
    await table.connect(PODS[0], "client-1", attempt, lost_replies=0, delay_s=0)
    await table.close(table.socket(PODS[0], "client-1", attempt), had_its_first_frame=True)
    assert await table.pool.fetchval("SELECT status FROM session.active_sessions") == "RECONNECTING"
    assert await table.round(PODS[1]) == {Socket(PODS[1], "client-1", 0, 1)}
    assert await table.rows() == []
    assert await table.pool.fetchval("SELECT status FROM session.active_sessions") == "RECONNECTING"


async def test_who_was_evicted_does_not_come_back_by_an_older_socket(table: SharedTable) -> None:
    await table.connect(PODS[1], "client-0", 0, lost_replies=0, delay_s=0)
    await table.connect(PODS[0], "client-0", 1, lost_replies=0, delay_s=0)
    for number in range(1, LIMIT + 1):
        await table.connect(PODS[0], f"client-{number}", 0, lost_replies=0, delay_s=0)
    (evicted,) = [row["client_id"] for row in await table.pool.fetch("SELECT * FROM session.sockets WHERE evicted")]
    assert evicted == "client-0"
    await table.close(table.socket(PODS[0], "client-0", 1), had_its_first_frame=True)
    for pod in PODS * 2:
        await table.round(pod)
    assert {row["client_id"] for row in await table.rows()} == {f"client-{n}" for n in range(1, LIMIT + 1)}
    assert {socket.client for socket in table.open} == {f"client-{n}" for n in range(1, LIMIT + 1)}


async def test_one_that_never_had_its_first_frame_leaves_the_older_one(table: SharedTable) -> None:
    await table.connect(PODS[1], "client-1", 0, lost_replies=0, delay_s=0)
    older = table.socket(PODS[1], "client-1", 0)
    await table.connect(PODS[0], "client-1", 1, lost_replies=0, delay_s=0)
    await table.close(table.socket(PODS[0], "client-1", 1))
    assert await table.round(PODS[1]) == set()
    assert [row["arrival"] for row in await table.rows()] == [older.arrival]
    assert await table.pool.fetchval("SELECT status FROM session.active_sessions") == "ACTIVE"


async def test_a_superseded_socket_is_closed_only_after_the_grace(table: SharedTable) -> None:
    """Its row is gone with the newer one, and whether that had its first frame is told by its pod."""
    await table.connect(PODS[1], "client-1", 0, lost_replies=0, delay_s=0)
    older = table.socket(PODS[1], "client-1", 0)
    await table.connect(PODS[0], "client-1", 1, lost_replies=0, delay_s=0)
    await table.close(table.socket(PODS[0], "client-1", 1), had_its_first_frame=True)
    asked = "SELECT verdict, due_in FROM session.assert_sockets($1, $2, $3, $4, $5, $6, $7::text::interval)"
    mine = (PODS[1], [SESSION], ["client-1"], [older.arrival], [0], ["websocket"])
    (soon,) = await table.pool.fetch(asked, *mine, "1 min")
    assert soon["verdict"] == "replaced"
    assert timedelta(seconds=30) < soon["due_in"] <= timedelta(minutes=1)
    (now,) = await table.pool.fetch(asked, *mine, "0 s")
    assert tuple(now) == ("replaced", timedelta(0))
    assert await table.rows() == []
