"""Ownership in PostgreSQL: the same rules as in domain/placement.py, over rows that are locked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeAlias

import asyncpg
import msgspec
import pytest

from session_service import config
from session_service.database.ownership import OwnershipRepository
from session_service.database.pods import PodRepository
from session_service.database.postgres import Postgres
from session_service.database.simulators import SimulatorRepository
from session_service.database.sql_files import load_queries
from session_service.database.start_queue import StartQueueRepository
from session_service.domain.placement import (
    ClaimCause,
    Owner,
    Ownership,
    Takeover,
    adoption_cause,
    claim_cause,
    next_epoch,
)
from session_service.domain.simulator import SimulatorStatus
from session_service.telemetry.metrics import Metrics
from tests.support.servers import Database
from tests.support.sql import Sql, until_waiting

# Inserted as the documents say, by whoever may: what is ours beside it comes by itself.
DOCUMENTED_SESSION = """
    INSERT INTO session.active_sessions (session_id, user_id, status, expires_at)
    VALUES ($1, 'user-1', 'ACTIVE', now() + interval '1 hour')"""
OWNED = "UPDATE session.ownership SET pod_id = $2, epoch = $3 WHERE session_id = $1"
SOCKET = "INSERT INTO session.sockets (session_id, client_id, pod_id) VALUES ($1, 'client-of-' || $2, $2)"
SIMULATOR = """
    INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, target)
    VALUES ($1, $2, 'user-1', $3,
            CASE WHEN $3 IN ('STOPPING', 'STOPPED', 'ERROR') THEN 'STOPPED' ELSE 'RUNNING' END)"""


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
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
def ownership(postgres: Postgres) -> OwnershipRepository:
    return OwnershipRepository(postgres, load_queries())


@pytest.fixture
def pods(postgres: Postgres) -> PodRepository:
    return PodRepository(postgres, load_queries())


@pytest.fixture
def starts(postgres: Postgres) -> StartQueueRepository:
    return StartQueueRepository(postgres, load_queries(), limit=1)


@pytest.fixture
def simulators(postgres: Postgres) -> SimulatorRepository:
    return SimulatorRepository(postgres, load_queries())


async def add_session(
    sql: Sql, session_id: str, owner: str | None = None, epoch: int = 0, *sockets: str, metadata: bool = True
) -> None:
    await sql.execute(DOCUMENTED_SESSION, session_id)
    await sql.execute(OWNED, session_id, owner, epoch)
    if metadata:
        await sql.execute("INSERT INTO session.session_metadata (session_id) VALUES ($1)", session_id)
    for pod_id in sockets:
        await sql.execute(SOCKET, session_id, pod_id)


async def add_pod(sql: Sql, pod_id: str, *, dead: bool = False, draining: bool = False) -> None:
    await sql.execute(
        "INSERT INTO session.pods (pod_id, pod_name, version, dead, draining) VALUES ($1, $2, '1', $3, $4)",
        pod_id,
        pod_id.partition("#")[0],
        dead,
        draining,
    )


# --- the rules ----------------------------------------------------------------------------------------------------

OWNERS = {
    None: None,
    "alive#1": Owner(),
    "draining#1": Owner(draining=True),
    "dead#1": Owner(dead=True),
    "dead-while-draining#1": Owner(dead=True, draining=True),
    "gone#1": Owner(dead=True),
}
WITHOUT_A_ROW = "gone#1"
CLAIMERS = {"alive": (False, False), "draining": (False, True), "dead": (True, False)}  # dead, draining


class Case(msgspec.Struct, frozen=True):
    """A session as a claimer finds it."""

    session_id: str
    owner_id: str | None
    epoch: int
    sockets: tuple[str, ...]  # pods that have one

    @property
    def owner(self) -> Owner | None:
        owner = OWNERS[self.owner_id]
        return owner and msgspec.structs.replace(owner, has_sockets=self.owner_id in self.sockets)


def cases() -> Iterator[Case]:
    for owner_id in OWNERS:
        places = [place for place in ("claimer#1", "third#1", owner_id) if place not in {None, WITHOUT_A_ROW}]
        for epoch in (0, 4) if owner_id is None else (4,):
            for count in range(len(places) + 1):
                for sockets in itertools.combinations(places, count):
                    yield Case(f"{owner_id}, {epoch}, {','.join(sockets)}", owner_id, epoch, sockets)


async def lay_out(sql: Sql, claimer: str) -> list[Case]:
    dead, draining = CLAIMERS[claimer]
    await add_pod(sql, "claimer#1", dead=dead, draining=draining)
    await add_pod(sql, "third#1")
    for owner_id, owner in OWNERS.items():
        if owner_id is not None and owner is not None and owner_id != WITHOUT_A_ROW:
            await add_pod(sql, owner_id, dead=owner.dead, draining=owner.draining)
    laid_out = list(cases())
    for case in laid_out:
        await add_session(sql, case.session_id, case.owner_id, case.epoch, *case.sockets)
    return laid_out


def takeovers(cases: list[Case], causes: list[ClaimCause | None]) -> list[Takeover]:
    """What a claimer takes where the rule says so for each case; in the order of their ids."""
    taken = [
        Takeover(case.session_id, next_epoch(case.epoch), cause, case.owner_id)
        for case, cause in zip(cases, causes, strict=True)
        if cause is not None
    ]
    return sorted(taken, key=lambda takeover: takeover.session_id)


@pytest.mark.parametrize("claimer", CLAIMERS)
async def test_claims_follow_the_rule_in_every_case(sql: Sql, ownership: OwnershipRepository, claimer: str) -> None:
    laid_out = await lay_out(sql, claimer)
    allowed = [
        claim_cause(case.owner, case.epoch, claimer_has_sockets="claimer#1" in case.sockets)
        if claimer == "alive"
        else None
        for case in laid_out
    ]
    assert len(laid_out) > 30
    assert set(allowed) == ({None, *ClaimCause} if claimer == "alive" else {None})
    taken = await ownership.claim("claimer#1", [case.session_id for case in laid_out])
    assert sorted(taken, key=lambda takeover: takeover.session_id) == takeovers(laid_out, allowed)
    for case, cause in zip(laid_out, allowed, strict=True):
        expected = ("claimer#1", case.epoch + 1) if cause else (case.owner_id, case.epoch)
        now = await ownership.get(case.session_id)
        assert now == Ownership(case.session_id, *expected), case
    assert await ownership.claim("claimer#1", [case.session_id for case in laid_out]) == []  # made again: nothing


@pytest.mark.parametrize("claimer", CLAIMERS)
async def test_adoptions_follow_the_rule_in_every_case(
    sql: Sql, ownership: OwnershipRepository, claimer: str
) -> None:
    laid_out = await lay_out(sql, claimer)
    allowed = [
        adoption_cause(
            case.owner,
            case.epoch,
            has_sockets=bool(case.sockets),
            adopter_has_sockets="claimer#1" in case.sockets,
        )
        if claimer == "alive"
        else None
        for case in laid_out
    ]
    if claimer == "alive":
        assert set(allowed) == {None, ClaimCause.NEW, ClaimCause.RELEASED, ClaimCause.DEAD}
    taken = await ownership.adopt("claimer#1", len(laid_out))
    assert sorted(taken, key=lambda takeover: takeover.session_id) == takeovers(laid_out, allowed)
    assert await ownership.adopt("claimer#1", len(laid_out)) == []


async def test_a_pod_without_a_row_takes_nothing(sql: Sql, ownership: OwnershipRepository) -> None:
    await add_session(sql, "s")
    assert await ownership.claim("nobody#1", ["s", "no-such-session"]) == []
    assert await ownership.adopt("nobody#1", 10) == []


async def test_an_adoption_takes_no_more_than_its_limit_and_passes_over_what_is_being_taken(
    sql: Sql, other: Sql, ownership: OwnershipRepository
) -> None:
    await add_pod(sql, "pod#1")
    await add_pod(sql, "other#1")
    for number in range(5):
        await add_session(sql, f"s{number}")
    async with other.transaction():
        await other.fetch("SELECT * FROM session.claim('other#1', ARRAY['s0', 's1'])")
        first = {takeover.session_id for takeover in await ownership.adopt("pod#1", 2)}
        second = {takeover.session_id for takeover in await ownership.adopt("pod#1", 2)}
    assert (len(first), first | second) == (2, {"s2", "s3", "s4"})
    assert await ownership.adopt("pod#1", 2) == []


async def test_of_two_claims_at_once_the_second_sees_the_first(
    sql: Sql, other: Sql, ownership: OwnershipRepository
) -> None:
    await add_pod(sql, "first#1")
    await add_pod(sql, "second#1")
    await add_session(sql, "s")
    async with other.transaction():
        await other.fetch("SELECT * FROM session.claim('first#1', ARRAY['s'])")
        second = asyncio.ensure_future(ownership.claim("second#1", ["s"]))
        await until_waiting(sql, second)
    assert await second == []
    assert await ownership.get("s") == Ownership("s", "first#1", 1)


async def test_a_claim_goes_on_where_the_one_before_it_was_rolled_back(
    sql: Sql, other: Sql, ownership: OwnershipRepository
) -> None:
    await add_pod(sql, "first#1")
    await add_pod(sql, "second#1")
    await add_session(sql, "s")
    transaction = other.transaction()
    await transaction.start()
    await other.fetch("SELECT * FROM session.claim('first#1', ARRAY['s'])")
    second = asyncio.ensure_future(ownership.claim("second#1", ["s"]))
    await until_waiting(sql, second)
    await transaction.rollback()
    assert await second == [Takeover("s", 1, ClaimCause.NEW, None)]


async def test_what_a_pod_claims_while_it_leaves_is_found(
    sql: Sql, other: Sql, ownership: OwnershipRepository
) -> None:
    await add_pod(sql, "leaving#1")
    await add_pod(sql, "alive#1")
    await add_session(sql, "s")
    async with other.transaction():
        await other.execute("SELECT session.bury_pod('leaving#1')")
        assert await ownership.claim("leaving#1", ["s"]) == [Takeover("s", 1, ClaimCause.NEW, None)]
    assert await ownership.adopt("alive#1", 10) == [Takeover("s", 2, ClaimCause.DEAD, "leaving#1")]


# --- an owner's writes ------------------------------------------------------------------------------------------

SIMULATOR_ROW = "SELECT 1 FROM simulator.instances FOR UPDATE"
METADATA_ROW = "SELECT 1 FROM session.session_metadata FOR UPDATE"
# The write, the status from which it starts, and the row that it changes.
OWNERS_WRITES = {
    "begin_create": ("CREATING", SIMULATOR_ROW),
    "workload_created": ("CREATING", SIMULATOR_ROW),
    "waiting": ("STARTING", SIMULATOR_ROW),
    "running": ("STARTING", SIMULATOR_ROW),
    "stopped": ("STOPPING", SIMULATOR_ROW),
    "fail": ("RUNNING", SIMULATOR_ROW),
    "heartbeats_sent": ("RUNNING", METADATA_ROW),
}


Write: TypeAlias = Callable[[], Awaitable[object]]


async def lay_out_write(
    sql: Sql,
    ownership: OwnershipRepository,
    simulators: SimulatorRepository,
    starts: StartQueueRepository,
    write: str,
) -> Write:
    """By the owner ``first#1`` under epoch 3. It drains, so that ``second#1`` may take its session at any time."""
    await add_pod(sql, "first#1", draining=True)
    await add_pod(sql, "second#1")
    await add_session(sql, "s", "first#1", 3)
    await sql.execute(SIMULATOR, "sim", "s", OWNERS_WRITES[write][0])
    owned = await simulators.owned("sim")
    assert owned is not None
    writes: dict[str, Write] = {
        "begin_create": lambda: starts.begin_create(owned, 10.0),
        "workload_created": lambda: simulators.workload_created(owned, "uid", "host:1"),
        "waiting": lambda: simulators.waiting(owned, "why"),
        "running": lambda: simulators.running(owned, "host:1"),
        "stopped": lambda: simulators.stopped(owned),
        "fail": lambda: simulators.fail(owned, "why"),
        "heartbeats_sent": lambda: ownership.heartbeats_sent("first#1", {"s": (3, 1_700_000_000)}),
    }
    return writes[write]


@pytest.mark.parametrize("write", OWNERS_WRITES)
async def test_an_owners_write_that_waited_behind_a_claim_is_nothing(
    sql: Sql,
    other: Sql,
    ownership: OwnershipRepository,
    simulators: SimulatorRepository,
    starts: StartQueueRepository,
    write: str,
) -> None:
    make = await lay_out_write(sql, ownership, simulators, starts, write)
    async with other.transaction():
        await other.fetch("SELECT * FROM session.claim('second#1', ARRAY['s'])")
        writing = asyncio.ensure_future(make())
        await until_waiting(sql, writing)
    assert not await writing
    assert await ownership.get("s") == Ownership("s", "second#1", 4)
    assert await sql.fetchval("SELECT status FROM simulator.instances") == OWNERS_WRITES[write][0]
    assert not await sql.fetchval("SELECT metadata ? 'last_simulator_heartbeat_sent' FROM session.session_metadata")


@pytest.mark.parametrize("write", OWNERS_WRITES)
async def test_a_claim_waits_for_an_owners_write_that_is_under_way(
    sql: Sql,
    other: Sql,
    ownership: OwnershipRepository,
    simulators: SimulatorRepository,
    starts: StartQueueRepository,
    write: str,
) -> None:
    make = await lay_out_write(sql, ownership, simulators, starts, write)
    async with other.transaction():
        await other.execute(OWNERS_WRITES[write][1])
        writing = asyncio.ensure_future(make())
        await until_waiting(sql, writing)
        claiming = asyncio.ensure_future(ownership.claim("second#1", ["s"]))
        await until_waiting(sql, writing, claiming)
    assert await writing
    assert await claiming == [Takeover("s", 4, ClaimCause.DRAINING, "first#1")]
    assert not await make()  # once more, as it was


@pytest.mark.parametrize("now", [("first#1", 4), ("first#1", 2), ("second#1", 3), (None, 3)])
@pytest.mark.parametrize("write", OWNERS_WRITES)
async def test_a_write_needs_this_owner_and_this_epoch(
    sql: Sql,
    ownership: OwnershipRepository,
    simulators: SimulatorRepository,
    starts: StartQueueRepository,
    write: str,
    now: tuple[str | None, int],
) -> None:
    make = await lay_out_write(sql, ownership, simulators, starts, write)
    await sql.execute(OWNED, "s", *now)
    assert not await make()
    await sql.execute(OWNED, "s", "first#1", 3)
    assert await make()


# --- letting go, and going above ----------------------------------------------------------------------------------


async def test_release_lets_go_of_what_has_no_socket_here(sql: Sql, ownership: OwnershipRepository) -> None:
    await add_pod(sql, "pod#1", draining=True)
    await add_pod(sql, "other#1")
    await add_session(sql, "with-a-client", "pod#1", 3, "pod#1")
    await add_session(sql, "idle", "pod#1", 3)
    await add_session(sql, "moved", "pod#1", 3, "other#1")
    await add_session(sql, "foreign", "other#1", 3)
    assert sorted(await ownership.release("pod#1", 10)) == ["idle", "moved"]
    assert await ownership.release("pod#1", 10) == []
    assert await ownership.get("idle") == Ownership(
        "idle", None, 3
    )  # the epoch stays, and the next claim is above it
    assert await ownership.claim("other#1", ["idle"]) == [Takeover("idle", 4, ClaimCause.RELEASED, None)]


async def test_release_is_made_in_batches(sql: Sql, ownership: OwnershipRepository) -> None:
    await add_pod(sql, "pod#1")
    for number in range(5):
        await add_session(sql, f"s{number}", "pod#1", 1)
    assert [len(await ownership.release("pod#1", 2)) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.parametrize("seen", [1, 4, 5, 9])
async def test_an_owner_goes_above_what_a_simulator_has_seen(
    sql: Sql, ownership: OwnershipRepository, seen: int
) -> None:
    await add_pod(sql, "pod#1")
    await add_pod(sql, "other#1")
    await add_session(sql, "s", "pod#1", 4)
    expected = next_epoch(4, seen) if seen >= 4 else 4  # it is above already: an answer that came late
    assert await ownership.outrank("s", "pod#1", seen) == expected
    assert await ownership.outrank("s", "pod#1", seen) == expected  # the reply was lost
    assert await ownership.outrank("s", "other#1", 100) is None
    assert await ownership.outrank("no-such-session", "pod#1", 100) is None
    assert await ownership.get("s") == Ownership("s", "pod#1", expected)


async def test_heartbeats_are_recorded_for_what_the_pod_still_owns(sql: Sql, ownership: OwnershipRepository) -> None:
    await add_pod(sql, "pod#1")
    await add_pod(sql, "other#1")
    await add_session(sql, "mine", "pod#1", 3)
    await add_session(sql, "mine-again", "pod#1", 5)
    await add_session(sql, "foreign", "other#1", 3)
    await add_session(sql, "nobodys", None, 3)
    sent = dict.fromkeys(("mine", "mine-again", "foreign", "nobodys", "gone"), (3, 1_700_000_000))
    assert await ownership.heartbeats_sent("pod#1", sent) == {"mine"}
    recorded = await sql.fetch(
        "SELECT session_id, metadata ->> 'last_simulator_heartbeat_sent' FROM session.session_metadata"
        " WHERE metadata ? 'last_simulator_heartbeat_sent'"
    )
    assert [tuple(row) for row in recorded] == [("mine", "1700000000")]


async def test_a_pod_that_goes_marks_what_it_owns_and_what_it_serves(
    sql: Sql, ownership: OwnershipRepository
) -> None:
    await add_pod(sql, "pod#1")
    await add_pod(sql, "other#1")
    await add_session(sql, "owned", "pod#1", 1)
    await add_session(sql, "both", "pod#1", 1, "pod#1")
    await add_session(sql, "served", "other#1", 1, "pod#1", "other#1")
    await add_session(sql, "foreign", "other#1", 1, "other#1")
    await add_session(sql, "by-hand", "pod#1", 1, metadata=False)
    assert await ownership.mark_terminating("pod#1", {"pod_terminating": True}) == 3
    marked = await sql.fetch(
        "SELECT session_id FROM session.session_metadata WHERE metadata ->> 'pod_terminating' = 'true' ORDER BY 1"
    )
    assert [row["session_id"] for row in marked] == ["both", "owned", "served"]


async def test_more_than_a_batch_is_marked(sql: Sql, ownership: OwnershipRepository) -> None:
    await add_pod(sql, "pod#1")
    await sql.execute(
        """INSERT INTO session.active_sessions (session_id, user_id, status, expires_at)
           SELECT chr(65 + n % 58) || n, 'u' || n, 'ACTIVE', now() + interval '1 h' FROM generate_series(1, 2100) n;
           INSERT INTO session.session_metadata (session_id) SELECT session_id FROM session.active_sessions;
           UPDATE session.ownership SET pod_id = 'pod#1', epoch = 1"""
    )
    assert await ownership.mark_terminating("pod#1", {"pod_terminating": True}) >= 2100
    assert (
        await sql.fetchval("SELECT count(*) FROM session.session_metadata WHERE metadata ? 'pod_terminating'") == 2100
    )


# --- rows that come and go ----------------------------------------------------------------------------------------


async def test_a_session_inserted_as_documented_can_be_owned(sql: Sql, ownership: OwnershipRepository) -> None:
    await sql.execute(DOCUMENTED_SESSION, "by-hand")
    assert await ownership.get("by-hand") == Ownership("by-hand", None, 0)
    await add_pod(sql, "pod#1")
    assert await ownership.adopt("pod#1", 10) == [Takeover("by-hand", 1, ClaimCause.NEW, None)]
    await sql.execute("DELETE FROM session.active_sessions WHERE session_id = 'by-hand'")
    assert await ownership.get("by-hand") is None


async def test_whoever_may_insert_a_session_needs_no_right_on_ownership(sql: Sql, database: Database) -> None:
    await sql.execute("CREATE ROLE session_inserter NOLOGIN")
    try:
        await sql.execute(
            "GRANT USAGE ON SCHEMA session TO session_inserter;"
            "GRANT INSERT ON session.active_sessions TO session_inserter"
        )
        await sql.execute("SET ROLE session_inserter")
        await sql.execute(DOCUMENTED_SESSION, "by-hand")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql.execute("UPDATE session.ownership SET epoch = 9")
    finally:
        await sql.execute("RESET ROLE; DROP OWNED BY session_inserter; DROP ROLE session_inserter")
    assert await sql.fetchval("SELECT epoch FROM session.ownership WHERE session_id = 'by-hand'") == 0


async def test_a_pods_row_that_goes_releases_what_it_owned(
    sql: Sql, ownership: OwnershipRepository, pods: PodRepository
) -> None:
    await add_pod(sql, "pod#1")
    await add_session(sql, "s", "pod#1", 3, "pod#1")
    await pods.leave("pod#1")
    assert await ownership.get("s") == Ownership("s", None, 3)
    assert await sql.fetchval("SELECT count(*) FROM session.sockets") == 0


async def test_the_sockets_of_the_dead_are_buried_in_batches(sql: Sql, pods: PodRepository) -> None:
    await add_pod(sql, "dead#1", dead=True)
    await add_pod(sql, "alive#1")
    for number in range(5):
        await add_session(sql, f"s{number}", "dead#1", 1, "dead#1")
    await add_session(sql, "both", "dead#1", 1, "dead#1", "alive#1")
    assert [await pods.bury_sockets(4) for _ in range(3)] == [4, 2, 0]
    rows = await sql.fetch(
        "SELECT session_id, status, metadata ->> 'frontend_connections' AS connections"
        " FROM session.active_sessions JOIN session.session_metadata USING (session_id) ORDER BY session_id"
    )
    assert [tuple(row) for row in rows] == [
        ("both", "ACTIVE", "1"),
        *((f"s{number}", "RECONNECTING", "0") for number in range(5)),
    ]


async def test_two_pods_bury_apart(sql: Sql, other: Sql, pods: PodRepository) -> None:
    await add_pod(sql, "dead#1", dead=True)
    for number in range(4):
        await add_session(sql, f"s{number}", "dead#1", 1, "dead#1")
    async with other.transaction():
        assert await other.fetchval("SELECT session.bury_sockets(2)") == 2
        assert await pods.bury_sockets(10) == 2
    assert await pods.bury_sockets(10) == 0


async def test_the_dead_are_kept_while_anything_names_them(sql: Sql, pods: PodRepository) -> None:
    for pod_id in ("long-dead#1", "owner#1", "served#1", "just-now#1"):
        await add_pod(sql, pod_id, dead=True)
    await sql.execute(
        "UPDATE session.pods SET died_at = now() - CASE pod_id WHEN 'just-now#1' THEN interval '59 min'"
        " ELSE interval '61 min' END"
    )
    await add_pod(sql, "alive#1")
    await add_session(sql, "s", "owner#1", 1, "served#1")
    await pods.purge()
    left = await sql.fetch("SELECT pod_id FROM session.pods ORDER BY 1")
    assert [row["pod_id"] for row in left] == ["alive#1", "just-now#1", "owner#1", "served#1"]


# --- death, and who is last ---------------------------------------------------------------------------------------


async def test_death_is_final_and_only_of_a_beat_that_stands_still(sql: Sql, pods: PodRepository) -> None:
    await pods.register("pod#1", "pod", "host:1", "1")
    seen = (await pods.all())[0].beat
    assert await pods.beat("pod#1")
    assert not await pods.declare_dead("pod#1", seen)
    assert await pods.declare_dead("pod#1", seen + 1)
    assert not await pods.declare_dead("pod#1", seen + 1)
    assert not await pods.beat("pod#1")
    await pods.register("pod#1", "pod", "host:1", "1")  # the same incarnation does not come back
    assert not await pods.beat("pod#1")
    assert await sql.fetchval("SELECT died_at IS NOT NULL FROM session.pods")


async def test_a_predecessor_is_one_of_this_name_and_address(pods: PodRepository) -> None:
    for pod_id, name, address in (
        ("a#1", "a", "host:1"),
        ("a#2", "a", "host:2"),
        ("b#1", "b", "host:1"),
        ("a#3", "a", "host:1"),
    ):
        await pods.register(pod_id, name, address, "1")
    assert await pods.declare_predecessors_dead("a", "host:1", "a#3") == ["a#1"]
    assert {pod.pod_id for pod in await pods.all() if pod.dead} == {"a#1"}


async def test_the_last_pod_stops_all_and_sees_to_what_nobody_else_does(
    sql: Sql, ownership: OwnershipRepository, simulators: SimulatorRepository
) -> None:
    await add_pod(sql, "last#1", draining=True)
    await add_pod(sql, "leaving#1", draining=True)
    await add_pod(sql, "dead#1", dead=True)
    for session_id, owner, status in (
        ("running", "leaving#1", "RUNNING"),
        ("creating", None, "CREATING"),
        ("of-the-dead", "dead#1", "STOPPING"),
        ("of-nobody", None, "STOPPING"),
        ("own", "last#1", "STOPPING"),
        ("being-removed", "leaving#1", "STOPPING"),
        ("stopped", "leaving#1", "STOPPED"),
    ):
        await add_session(sql, session_id, owner, 3 if owner else 0)
        await sql.execute(SIMULATOR, f"sim-{session_id}", session_id, status)
    stopping = await simulators.stop_as_last("last#1", "why")
    assert {(one.simulator.session_id, one.changed) for one in stopping} == {
        ("running", True),
        ("creating", True),
        ("of-the-dead", False),
        ("of-nobody", False),
        ("own", False),
        ("being-removed", False),
    }
    assert {one.simulator.status for one in stopping} == {SimulatorStatus.STOPPING}
    owners = {row[0]: (row[1], row[2]) for row in await sql.fetch("SELECT * FROM session.ownership")}
    assert owners == {
        "running": ("last#1", 4),
        "creating": ("last#1", 1),
        "of-the-dead": ("last#1", 4),
        "of-nobody": ("last#1", 1),
        "own": ("last#1", 3),
        "being-removed": ("leaving#1", 3),  # by a pod that is at it: it would be kept from recording it
        "stopped": ("leaving#1", 3),
    }


async def test_two_last_pods_do_not_take_from_each_other(
    sql: Sql, ownership: OwnershipRepository, pods: PodRepository, simulators: SimulatorRepository
) -> None:
    await add_pod(sql, "one#1", draining=True)
    await add_pod(sql, "two#1", draining=True)
    await add_session(sql, "s", "two#1", 1)
    await sql.execute(SIMULATOR, "sim", "s", "RUNNING")
    assert [one.changed for one in await simulators.stop_as_last("one#1", "why")] == [True]
    assert [one.changed for one in await simulators.stop_as_last("two#1", "why")] == [False]  # it waits as well
    assert await ownership.get("s") == Ownership("s", "one#1", 2)
    await pods.leave("one#1")
    assert [one.changed for one in await simulators.stop_as_last("two#1", "why")] == [False]
    assert await ownership.get("s") == Ownership("s", "two#1", 3)
    await sql.execute("UPDATE simulator.instances SET status = 'STOPPED'")
    assert await simulators.stop_as_last("two#1", "why") == []


async def test_a_pod_that_registers_at_that_moment_keeps_the_simulators_running(
    sql: Sql, other: Sql, pods: PodRepository, simulators: SimulatorRepository
) -> None:
    await add_pod(sql, "last#1")
    await add_session(sql, "s", "last#1", 1)
    await sql.execute(SIMULATOR, "sim", "s", "RUNNING")
    assert await pods.start_draining("last#1") == {}
    async with other.transaction():
        await other.execute("SELECT session.register_pod('new#1', 'new', 'host:1', '1')")
        stopping = asyncio.ensure_future(simulators.stop_as_last("last#1", "why"))
        await until_waiting(sql, stopping)
    assert await stopping == []
    assert await sql.fetchval("SELECT status FROM simulator.instances") == "RUNNING"
    assert await pods.start_draining("last#1") == {"new#1": 0}


async def test_of_pods_that_drain_at_once_one_is_last(sql: Sql, other: Sql, pods: PodRepository) -> None:
    await add_pod(sql, "one#1")
    await add_pod(sql, "two#1")
    async with other.transaction():
        assert await other.fetch("SELECT * FROM session.start_draining('one#1')") != []
        second = asyncio.ensure_future(pods.start_draining("two#1"))
        await until_waiting(sql, second)
    assert await second == {}


@pytest.mark.parametrize("status", ["CREATING", "STARTING", "RUNNING", "STOPPING", "STOPPED", "ERROR", None])
async def test_a_workload_that_came_late_is_handed_over_unless_its_row_wants_it(
    sql: Sql, simulators: SimulatorRepository, status: str | None
) -> None:
    """Whoever made it may own the session no more: what counts is whether anybody wants the workload."""
    await add_session(sql, "s")
    if status is not None:
        await sql.execute(SIMULATOR, "sim", "s", status)
    wanted = status in {"CREATING", "STARTING", "RUNNING"}
    assert await simulators.request_teardown("sim", "s", "host:1", "uid") is not wanted
    assert await simulators.teardown_count() == (0 if wanted else 1)
