"""The start queue in PostgreSQL: the same rules as in domain/start_queue.py, and never more slots than there are."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from session_service import config
from session_service.database.postgres import Postgres
from session_service.database.simulators import OwnedSimulator, SimulatorRepository
from session_service.database.sql_files import load_queries
from session_service.database.start_queue import (
    Creation,
    Queued,
    StartQueueRepository,
    WaitingCount,
)
from session_service.domain.simulator import SimulatorStatus
from session_service.domain.start_queue import SLOT_S, WaitingStart, admitted, fair_order
from session_service.telemetry.metrics import Metrics
from tests.support.servers import Database
from tests.support.sql import Sql, until_waiting

SESSION = """
    INSERT INTO session.active_sessions (session_id, user_id, status, expires_at)
    VALUES ($1, $2, 'ACTIVE', now() + interval '1 hour')"""
SIMULATOR = """
    INSERT INTO simulator.instances (
        simulator_id, session_id, user_id, status, target, created_at, queued_at, admitted_at)
    VALUES ($1, 'session-' || $1, $2, $3,
            CASE WHEN $3 IN ('STOPPING', 'STOPPED', 'ERROR') THEN 'STOPPED' ELSE 'RUNNING' END,
            to_timestamp($4::float8), CASE WHEN $5 THEN now() END,
            clock_timestamp() - make_interval(secs => $6::float8))"""
FLUSH = load_queries()["sessions.flush_activity"]
OLD_S = SLOT_S + 1
LONG_AFTER_S = 1e9
LIMIT = 3


class Row(msgspec.Struct, frozen=True):
    """A simulator as it is laid out. ``admitted_s``: so long ago; None: not."""

    simulator_id: str
    user_id: str
    status: SimulatorStatus = SimulatorStatus.CREATING
    created_at: float = 1.0
    queued: bool = False
    admitted_s: float | None = None

    @property
    def waits(self) -> bool:
        return self.status is SimulatorStatus.CREATING and self.queued and self.admitted_s is None

    @property
    def holds_a_slot(self) -> bool:
        on_its_way = self.status in {SimulatorStatus.CREATING, SimulatorStatus.STARTING}
        return on_its_way and self.admitted_s is not None and self.admitted_s < SLOT_S


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("INSERT INTO session.pods (pod_id, pod_name, version) VALUES ('pod#1', 'pod', '1')")
    yield connection
    await connection.close()


@pytest.fixture
async def postgres(database: Database) -> AsyncIterator[Postgres]:
    """With the rights of the service, not of the schema's owner."""
    made = Postgres(config.load(database.environ()).settings.database, Metrics())
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def simulators(postgres: Postgres) -> SimulatorRepository:
    return SimulatorRepository(postgres, load_queries())


@pytest.fixture
def starts(postgres: Postgres) -> StartQueueRepository:
    return StartQueueRepository(postgres, load_queries(), limit=LIMIT)


async def lay_out(sql: Sql, *rows: Row) -> None:
    """Each with a session that ``pod#1`` owns."""
    for row in rows:
        await sql.execute(SESSION, f"session-{row.simulator_id}", row.user_id)
        await sql.execute(
            SIMULATOR, row.simulator_id, row.user_id, row.status, row.created_at, row.queued, row.admitted_s
        )
    await sql.execute("UPDATE session.ownership SET pod_id = 'pod#1', epoch = 1")


async def begin(
    simulators: SimulatorRepository, starts: StartQueueRepository, simulator_id: str
) -> Creation | Queued:
    owned = await simulators.owned(simulator_id)
    assert owned is not None
    begun = await starts.begin_create(owned, 10.0)
    assert begun is not None
    return begun


async def order(sql: Sql) -> list[str]:
    rows = await sql.fetch(
        "SELECT waiting_id FROM simulator.start_queue(make_interval(secs => $1)) ORDER BY place", SLOT_S
    )
    return [row["waiting_id"] for row in rows]


def any_rows(chance: random.Random) -> list[Row]:
    return [
        Row(
            f"sim-{number:02}",
            chance.choice(["ann", "ben", "cat", "dan"]),
            chance.choices(list(SimulatorStatus)[1:], weights=[6, 2, 1, 1, 1, 1])[0],
            float(chance.randrange(10)),
            queued=chance.random() < 0.8,
            admitted_s=chance.choice([None, None, None, 1.0, OLD_S]),
        )
        for number in range(chance.randrange(16))
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_the_rows_follow_the_rule(sql: Sql, starts: StartQueueRepository, seed: int) -> None:
    rows = any_rows(random.Random(seed))
    await lay_out(sql, *rows)
    waiting = [WaitingStart(row.simulator_id, row.user_id, row.created_at) for row in rows if row.waits]
    held = Counter(row.user_id for row in rows if row.holds_a_slot)
    # Each was laid out, and thereby given its slot, a moment after the one before; long after they were asked for.
    gave = [(LONG_AFTER_S - row.admitted_s + number / 1000, row) for number, row in enumerate(rows) if row.admitted_s]
    served = {row.user_id: at for at, row in sorted(gave, key=lambda one: one[0])}
    assert await order(sql) == [start.simulator_id for start in fair_order(waiting, held, served)]
    given = {one.simulator.simulator_id for one in await starts.admit()}
    assert given == {start.simulator_id for start in admitted(waiting, held, served, LIMIT)}
    assert (await starts.count("pod#1")).waiting == len(waiting) - len(given)


async def test_of_fifty_at_once_as_many_begin_as_there_are_slots(
    sql: Sql, simulators: SimulatorRepository, starts: StartQueueRepository
) -> None:
    rows = [Row(f"sim-{number:02}", f"user-{number % 7}") for number in range(50)]
    await lay_out(sql, *rows)
    begun = await asyncio.gather(*(begin(simulators, starts, row.simulator_id) for row in rows))
    assert sum(isinstance(one, Creation) for one in begun) == LIMIT
    assert await sql.fetchval("SELECT count(*) FROM simulator.instances WHERE create_until > now()") == LIMIT
    assert await starts.count("pod#1") == WaitingCount(waiting=50 - LIMIT, own=50 - LIMIT)
    assert await starts.count("other#1") == WaitingCount(waiting=50 - LIMIT, own=0)
    places = [waiting.position for waiting in await starts.of_pod("pod#1")]
    assert sorted(places) == list(range(1, 50 - LIMIT + 1))


async def test_fifty_admissions_at_once_give_each_free_slot_once(sql: Sql, starts: StartQueueRepository) -> None:
    await lay_out(sql, *(Row(f"sim-{number:02}", "ann", queued=True) for number in range(10)))
    given = await asyncio.gather(*(starts.admit() for _ in range(50)))
    assert sorted(one.simulator.simulator_id for some in given for one in some) == ["sim-00", "sim-01", "sim-02"]


async def test_a_burst_of_one_user_does_not_block_another(
    sql: Sql, simulators: SimulatorRepository, starts: StartQueueRepository
) -> None:
    await lay_out(sql, *(Row(f"ann-{number}", "ann") for number in range(8)), Row("ben", "ben", created_at=9.0))
    for number in range(8):
        await begin(simulators, starts, f"ann-{number}")
    assert await begin(simulators, starts, "ben") == Queued(1)
    assert await starts.place("ann-3") == 2
    await sql.execute("UPDATE simulator.instances SET status = 'RUNNING' WHERE simulator_id = 'ann-1'")
    (next_one,) = await starts.admit()
    assert (next_one.simulator.simulator_id, next_one.owner_pod_id) == ("ben", "pod#1")


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_user_whose_start_is_done_lets_others_go_before(
    sql: Sql, postgres: Postgres, simulators: SimulatorRepository, limit: int
) -> None:
    """As many users as there are slots ask for many; another one, later, for one. Whoever has had a slot since that
    one came has had a turn, also when it has been given back.
    """
    starts = StartQueueRepository(postgres, load_queries(), limit=limit)
    bursts = [f"burst-{user}-{number}" for number in range(6) for user in range(limit)]
    await lay_out(sql, *(Row(name, name.rsplit("-", 1)[0]) for name in bursts), Row("ben", "ben", created_at=2.0))
    for name in (*bursts, "ben"):
        await begin(simulators, starts, name)
    admissions = []
    while "ben" not in admissions:
        await sql.execute(
            "UPDATE simulator.instances SET status = 'RUNNING' WHERE simulator_id = ("
            " SELECT simulator_id FROM simulator.instances WHERE status = 'CREATING' AND admitted_at IS NOT NULL"
            " ORDER BY admitted_at LIMIT 1)"
        )
        admissions += [one.simulator.simulator_id for one in await starts.admit()]
    assert admissions == ["ben"]


@pytest.mark.parametrize("status", ["RUNNING", "STOPPING", "STOPPED", "ERROR", None])
async def test_a_slot_is_free_when_its_start_is_over(
    sql: Sql, simulators: SimulatorRepository, starts: StartQueueRepository, status: str | None
) -> None:
    await lay_out(sql, *(Row(f"sim-{number}", "ann", created_at=float(number)) for number in range(LIMIT + 1)))
    begun = [await begin(simulators, starts, f"sim-{number}") for number in range(LIMIT + 1)]
    assert begun[-1] == Queued(1)
    assert await starts.admit() == []
    if status is None:
        await sql.execute("DELETE FROM session.active_sessions WHERE session_id = 'session-sim-0'")
    else:
        await sql.execute("UPDATE simulator.instances SET status = $1 WHERE simulator_id = 'sim-0'", status)
    assert [one.simulator.simulator_id for one in await starts.admit()] == [f"sim-{LIMIT}"]
    assert isinstance(await begin(simulators, starts, f"sim-{LIMIT}"), Creation)


async def test_an_owner_begins_again_within_its_slot(
    sql: Sql, simulators: SimulatorRepository, starts: StartQueueRepository
) -> None:
    await lay_out(sql, Row("sim", "ann"), *(Row(f"other-{number}", "ben", queued=True) for number in range(9)))
    await starts.admit()
    first = await begin(simulators, starts, "sim")
    assert isinstance(
        first, Queued
    )  # what waits already comes before it: Ann's turn is the first, Ben's took the slots
    await sql.execute("UPDATE simulator.instances SET status = 'RUNNING' WHERE simulator_id = 'other-0'")
    begun = await begin(simulators, starts, "sim")
    again = await begin(simulators, starts, "sim")
    assert isinstance(begun, Creation)
    assert isinstance(again, Creation)
    assert begun.queued_for_s is not None
    assert again.queued_for_s is None
    assert again.until > begun.until


async def test_a_slot_lapses(sql: Sql, simulators: SimulatorRepository, starts: StartQueueRepository) -> None:
    """What its platform keeps waiting goes on, and is only not counted. What was not created yet asks anew, and is
    before all others of its user.
    """
    stuck = [Row(f"stuck-{number}", "ben", SimulatorStatus.STARTING, admitted_s=OLD_S) for number in range(LIMIT)]
    waiting = [Row(f"ann-{number}", "ann", created_at=5.0, queued=True) for number in range(LIMIT + 2)]
    await lay_out(sql, *stuck, *waiting, Row("late", "ann", queued=True, admitted_s=OLD_S))
    assert [one.simulator.simulator_id for one in await starts.admit()] == ["ann-0", "ann-1", "ann-2"]
    assert await begin(simulators, starts, "late") == Queued(1)
    assert await order(sql) == ["late", "ann-3", "ann-4"]


async def test_what_nobody_created_yet_is_stopped_at_once(
    sql: Sql, simulators: SimulatorRepository, starts: StartQueueRepository
) -> None:
    names = ["new", "waiting", "admitted", "begun"]
    await lay_out(
        sql,
        Row("new", "ann"),
        Row("waiting", "ann", queued=True),
        Row("admitted", "ann", queued=True, admitted_s=1.0),
    )
    await lay_out(sql, Row("begun", "ann", queued=True, admitted_s=1.0))
    await begin(simulators, starts, "begun")
    stopped = [await simulators.request_stop(name, "why") for name in names]
    assert [one.simulator.status for one in stopped if one is not None] == [
        "STOPPED",
        "STOPPED",
        "STOPPING",
        "STOPPING",
    ]
    assert await starts.count("pod#1") == WaitingCount(0, 0)
    assert await sql.fetchval("SELECT count(*) FROM simulator.teardowns") == 0


async def test_what_was_sent_is_never_stopped_as_if_it_had_not_been(
    sql: Sql, simulators: SimulatorRepository, starts: StartQueueRepository
) -> None:
    """Its slot lapsed while its create went unanswered, and it waits once more: there may be a workload."""
    await lay_out(sql, *(Row(f"other-{number}", "ben", queued=True, admitted_s=1.0) for number in range(LIMIT)))
    await lay_out(sql, Row("sim", "ann", queued=True, admitted_s=1.0))
    await begin(simulators, starts, "sim")
    await sql.execute(
        "UPDATE simulator.instances SET admitted_at = now() - interval '1 hour' WHERE simulator_id = 'sim'"
    )
    assert isinstance(await begin(simulators, starts, "sim"), Queued)
    stopped = await simulators.request_stop("sim", "why")
    assert stopped is not None
    assert stopped.simulator.status is SimulatorStatus.STOPPING


async def test_a_row_that_somebody_holds_is_passed_over(
    database: Database, sql: Sql, starts: StartQueueRepository
) -> None:
    await lay_out(sql, *(Row(f"sim-{number}", "ann", queued=True) for number in range(LIMIT + 1)))
    other = await asyncpg.connect(database.owner_dsn)
    async with other.transaction():
        await other.execute("SELECT 1 FROM simulator.instances WHERE simulator_id = 'sim-0' FOR UPDATE")
        given = [one.simulator.simulator_id for one in await starts.admit()]
    await other.close()
    assert given == ["sim-1", "sim-2", "sim-3"]


async def test_where_nobody_waits_the_lock_is_not_taken(
    database: Database, sql: Sql, starts: StartQueueRepository
) -> None:
    other = await asyncpg.connect(database.owner_dsn)
    async with other.transaction():
        await other.execute("SELECT simulator.lock_starts()")
        assert await starts.admit() == []
        assert await starts.count("pod#1") == WaitingCount(0, 0)
    await other.close()


async def test_the_activity_of_a_session_does_not_wait_for_its_start(
    database: Database, sql: Sql, simulators: SimulatorRepository, starts: StartQueueRepository
) -> None:
    """Each would hold what the other waits for: the simulator's row, and its session's."""
    await lay_out(sql, Row("sim", "ann"))
    other = await asyncpg.connect(database.owner_dsn)
    async with other.transaction():
        await other.execute("SELECT simulator.lock_starts()")
        beginning = asyncio.ensure_future(begin(simulators, starts, "sim"))
        await until_waiting(sql, beginning)
        async with asyncio.timeout(20):
            flushed = await sql.fetchrow(FLUSH, "pod#1", None, 0.0, False, [], ["session-sim"], [1.0], [1.0], 3600.0)
    await other.close()
    assert flushed is not None
    assert flushed["passed_over"] == ["session-sim"]
    assert isinstance(await beginning, Creation)


async def test_what_no_user_waits_for_gets_what_is_left(sql: Sql) -> None:
    free = "SELECT simulator.free_starts($1, make_interval(secs => $2))"
    assert await sql.fetchval(free, 5, SLOT_S) == 5
    await lay_out(sql, Row("sim-1", "ann", admitted_s=1.0), Row("sim-2", "ann", admitted_s=OLD_S))
    assert [await sql.fetchval(free, limit, SLOT_S) for limit in (5, 1, 0)] == [4, 0, 0]
    await lay_out(sql, Row("sim-3", "ann", queued=True))
    assert await sql.fetchval(free, 5, SLOT_S) == 0


async def test_who_waits_here_is_known_by_its_owner_and_by_its_socket(sql: Sql, starts: StartQueueRepository) -> None:
    await sql.execute("INSERT INTO session.pods (pod_id, pod_name, version) VALUES ('other#1', 'other', '1')")
    await lay_out(sql, *(Row(f"sim-{number}", "ann", queued=True) for number in range(4)))
    await sql.execute("UPDATE session.ownership SET pod_id = 'other#1' WHERE session_id <> 'session-sim-1'")
    await sql.execute(
        "INSERT INTO session.sockets (session_id, client_id, pod_id)"
        " SELECT 'session-sim-2', 'tab-' || n, 'pod#1' FROM generate_series(1, 3) n"
    )
    found = [(one.simulator.simulator_id, one.position, one.owner_pod_id) for one in await starts.of_pod("pod#1")]
    assert sorted(found) == [("sim-1", 2, "pod#1"), ("sim-2", 3, "other#1")]


async def test_the_owner_knows_what_waits(sql: Sql, simulators: SimulatorRepository) -> None:
    await lay_out(
        sql,
        Row("new", "ann"),
        Row("waiting", "ann", queued=True),
        Row("admitted", "ann", queued=True, admitted_s=1.0),
        Row("over", "ann", SimulatorStatus.STOPPED, queued=True),
    )

    async def owned(simulator_id: str) -> OwnedSimulator:
        found = await simulators.owned(simulator_id)
        assert found is not None
        return found

    waits = {name: (await owned(name)).waits_for_slot for name in ("new", "waiting", "admitted", "over")}
    assert waits == {"new": False, "waiting": True, "admitted": False, "over": False}
    assert sorted(await simulators.unsettled("pod#1")) == ["admitted", "new"]
