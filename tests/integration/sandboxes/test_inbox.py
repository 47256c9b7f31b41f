"""Claims: as the rules of domain/inbox.py say, under concurrency too."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from session_service.domain.inbox import InboxStatus, Work, after_failure, is_exhausted, next_claim, retry_delay_s
from tests.support.sandboxes import Sandboxes, put
from tests.support.sql import Sql
from tests.support.waiting import eventually

CLAIM_LOST = "SB001"
ROUNDS = 40


async def claim(connection: Sql, visibility_s: float = 30) -> asyncpg.Record | None:
    row: asyncpg.Record | None = await connection.fetchrow("SELECT * FROM session_claim('worker', $1)", visibility_s)
    return row


async def lost(connection: Sql, function: str, row: Any) -> bool:
    try:
        await connection.fetch(f"SELECT * FROM {function}($1, $2)", row["id"], row["claim"])  # noqa: S608
    except asyncpg.PostgresError as error:
        if error.sqlstate != CLAIM_LOST or not error.args[0].startswith("CLAIM_LOST: "):
            raise
        return True
    return False


async def test_the_oldest_is_claimed_first_and_completed_with_its_claim(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    first, second = await put(shared, messages='["do"]'), await put(shared)
    await put(shared, status=None)
    await put(shared, status="processing")
    row = await claim(shared, 60)
    assert row is not None
    assert (row["id"], row["inbox_status"], row["claimed_by"], row["attempts"]) == (first, "processing", "worker", 1)
    left_s = await shared.fetchval("SELECT extract(epoch FROM $1 - clock_timestamp())", row["claimed_until"])
    assert 50 < left_s <= 60
    done = await shared.fetchrow("SELECT * FROM session_complete($1, $2, '[1]')", first, row["claim"])
    assert done is not None
    assert (done["inbox_status"], done["messages"], done["claim"], done["claimed_until"]) == (
        ("completed", "[1]", None, None)
    )
    other = await claim(shared)
    assert other is not None
    assert other["id"] == second
    done = await shared.fetchrow("SELECT * FROM session_complete($1, $2)", second, other["claim"])
    assert done is not None
    assert done["messages"] is None
    assert await claim(shared) is None


async def test_work_of_a_lost_worker_is_claimed_again_and_its_late_answers_are_refused(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    await put(shared)
    old = await claim(shared, 0.1)
    assert old is not None
    new = await eventually(lambda: claim(shared), within_s=5, what="the claim to run out")
    assert new is not None
    assert (new["id"], new["attempts"]) == (old["id"], 2)
    assert new["claim"] != old["claim"]
    for function in ("session_complete", "session_extend", "session_fail"):
        assert await lost(shared, function, old)
    row = await shared.fetchrow("SELECT * FROM session WHERE id = $1", old["id"])
    assert row is not None
    assert (row["claim"], row["inbox_status"]) == (new["claim"], "processing")
    assert not await lost(shared, "session_complete", new)
    assert await lost(shared, "session_complete", new)  # once


async def test_an_extended_claim_is_held_longer(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    await put(shared)
    row = await claim(shared, 0.2)
    assert row is not None
    extended = await shared.fetchrow("SELECT * FROM session_extend($1, $2, 3600)", row["id"], row["claim"])
    assert extended is not None
    assert extended["claimed_until"] - row["claimed_until"] > timedelta(seconds=3590)
    assert extended["claim"] == row["claim"]
    passed = await shared.fetchval("SELECT pg_sleep(0.25) IS NULL")  # the first limit, by PostgreSQL's own clock
    assert passed is not None
    assert await claim(shared) is None


async def test_a_failure_is_retried_after_its_back_off_until_attempts_run_out(sandboxes: Sandboxes) -> None:
    shared, owner = await sandboxes.shared(), await sandboxes.owner()
    made = await put(shared, max_attempts=3)
    for attempt in (1, 2, 3):
        row = await claim(shared)
        assert row is not None
        assert (row["id"], row["attempts"]) == (made, attempt)
        failed = await shared.fetchrow(
            "SELECT *, extract(epoch FROM not_before - updated_at)::float8 AS delay_s FROM session_fail($1, $2, $3)",
            made,
            row["claim"],
            f"attempt {attempt}",
        )
        assert failed is not None
        assert failed["inbox_status"] == after_failure(attempt, 3, retry=True)
        assert failed["last_error"] == f"attempt {attempt}"
        if attempt < 3:
            assert failed["delay_s"] == pytest.approx(retry_delay_s(attempt), abs=0.1)
            assert await claim(shared) is None
            await owner.execute("UPDATE session SET not_before = now() - interval '1 s'")
    assert await claim(shared) is None


async def test_a_failure_without_retry_is_final_and_the_delay_can_be_chosen(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    made = await put(shared)
    row = await claim(shared)
    assert row is not None
    again = await shared.fetchrow(
        "SELECT * FROM session_fail($1, $2, p_error => 'later', p_retry_after_s => 0)", made, row["claim"]
    )
    assert again is not None
    assert again["inbox_status"] == "pending"
    row = await claim(shared)
    assert row is not None
    final = await shared.fetchrow("SELECT * FROM session_fail($1, $2, $3, false)", made, row["claim"], "x" * 5000)
    assert final is not None
    assert (final["inbox_status"], final["not_before"], len(final["last_error"])) == ("failed", None, 2000)


async def test_work_that_is_never_completed_in_time_is_failed_by_the_next_claim(sandboxes: Sandboxes) -> None:
    shared, owner = await sandboxes.shared(), await sandboxes.owner()
    made = await put(shared, max_attempts=1)
    assert await claim(shared) is not None
    await owner.execute("UPDATE session SET claimed_until = now() - interval '1 s'")
    behind = await put(shared)
    row = await claim(shared)
    assert row is not None
    assert row["id"] == behind
    ended = await shared.fetchrow("SELECT * FROM session WHERE id = $1", made)
    assert ended is not None
    assert (ended["inbox_status"], ended["claim"]) == ("failed", None)
    assert ended["last_error"] == "claimed 1 times, and never completed in time"


@pytest.mark.parametrize("status", ["completed", "failed", "pending", None])
async def test_a_status_set_by_plain_sql_ends_the_claim(sandboxes: Sandboxes, status: str | None) -> None:
    shared = await sandboxes.shared()
    made = await put(shared)
    old = await claim(shared)
    await shared.execute("UPDATE session SET inbox_status = $2 WHERE id = $1", made, status)
    assert await lost(shared, "session_complete", old)
    row = await claim(shared)
    assert (row is not None) == (status == "pending")
    if row is not None:
        assert row["attempts"] == 1


async def test_messages_written_meanwhile_leave_the_claim(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    made = await put(shared)
    row = await claim(shared)
    await shared.execute("UPDATE session SET messages = '[1]', inbox_status = 'processing' WHERE id = $1", made)
    assert not await lost(shared, "session_complete", row)


async def test_a_row_that_somebody_holds_is_passed_over(sandboxes: Sandboxes) -> None:
    one, other = await sandboxes.shared(), await sandboxes.shared()
    held, free = await put(one), await put(one)
    async with one.transaction():
        await one.execute("SELECT 1 FROM session WHERE id = $1 FOR UPDATE", held)
        row = await claim(other)
    assert row is not None
    assert row["id"] == free


async def test_sandboxes_claim_their_own_and_the_others_claim_all(sandboxes: Sandboxes) -> None:
    shared, service = await sandboxes.shared(), await sandboxes.service()
    one, other = await sandboxes.own("one"), await sandboxes.own("other")
    made = [await put(connection) for connection in (shared, one, other)]
    row = await claim(other)
    assert row is not None
    assert row["id"] == made[2]
    assert await claim(other) is None
    rows = [await claim(service), await claim(shared)]
    assert [row["id"] for row in rows if row is not None] == made[:2]
    assert await claim(one) is None


async def test_rows_are_claimed_in_the_order_of_the_rules(sandboxes: Sandboxes) -> None:
    """Many random inboxes; of each, row after row is claimed as the rules say."""
    shared, owner = await sandboxes.shared(), await sandboxes.owner()
    await owner.execute("ALTER TABLE session DISABLE TRIGGER USER")
    chooser = random.Random(1)
    for _ in range(ROUNDS):
        await owner.execute("DELETE FROM session")
        now_s = float(await owner.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
        works: dict[UUID, Work] = {}
        for _row in range(6):
            status = chooser.choice([None, *InboxStatus, InboxStatus.PENDING, InboxStatus.PROCESSING])
            is_claimed = status is InboxStatus.PROCESSING and chooser.random() < 0.7
            # An hour is far from the instant of the claim, and every row has its own second.
            instants = chooser.sample(range(-7200, -3600), 3)
            near = chooser.choice([0, 10800])
            claimed_until_s = now_s + instants[0] + near if is_claimed else None
            waits = status is InboxStatus.PENDING and chooser.random() < 0.5
            not_before_s = now_s + instants[1] + near if waits else None
            created_at_s, attempts = now_s + instants[2], chooser.choice([1, 4, 5])
            made = await owner.fetchval(
                "INSERT INTO session (inbox_status, created_at, claim, claimed_until, not_before, attempts)"
                " VALUES ($1, to_timestamp($2), CASE WHEN $5 THEN gen_random_uuid() END, to_timestamp($3),"
                " to_timestamp($4), $6) RETURNING id",
                status,
                created_at_s,
                claimed_until_s,
                not_before_s,
                is_claimed,
                attempts,
            )
            works[made] = Work(str(made), status, created_at_s, claimed_until_s, not_before_s, attempts)
        claimed = []
        while (row := await claim(shared)) is not None:
            claimed.append(str(row["id"]))
        left, expected = [*works.values()], []
        while (work := next_claim(left, now_s)) is not None:
            expected.append(work.id)
            left.remove(work)
        assert claimed == expected
        failed = await owner.fetch("SELECT id FROM session WHERE inbox_status = 'failed' AND last_error IS NOT NULL")
        assert {str(row["id"]) for row in failed} == {work.id for work in works.values() if is_exhausted(work, now_s)}


async def test_delays_are_those_of_the_rules(sandboxes: Sandboxes) -> None:
    owner = await sandboxes.owner()
    rows = await owner.fetch(
        "SELECT a, extract(epoch FROM sandbox.retry_delay(a))::float8 AS delay_s FROM generate_series(0, 100) a"
    )
    assert {row["a"]: row["delay_s"] for row in rows} == {
        attempts: retry_delay_s(attempts) for attempts in range(101)
    }


async def test_one_notification_a_statement_with_ids_of_what_became_pending(sandboxes: Sandboxes) -> None:
    shared, listener = await sandboxes.shared(), await sandboxes.shared()
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("sandbox_inbox", lambda _c, _pid, _channel, payload: heard.put_nowait(str(payload)))

    async def told() -> str:
        async with asyncio.timeout(5):
            return await heard.get()

    one = await put(shared)
    assert await told() == str(one)
    await put(shared, status=None)
    await shared.execute("INSERT INTO session (inbox_status) SELECT 'completed' FROM generate_series(1, 3)")
    await shared.execute("UPDATE session SET messages = '[]' WHERE inbox_status = 'pending'")
    row = await claim(shared)
    assert row is not None
    await shared.execute("SELECT session_fail($1, $2, NULL, true, 0)", one, row["claim"])
    assert await told() == str(one)  # nothing was told between
    many = await shared.fetch(
        "INSERT INTO session (inbox_status) SELECT 'pending' FROM generate_series(1, 1000) RETURNING id"
    )
    payload = await told()
    assert len(payload) < 8000
    named = payload.split(",")
    assert named[-1] == "+800"
    assert len(set(named[:-1])) == 200
    assert {UUID(name) for name in named[:-1]} <= {row["id"] for row in many}
    await shared.execute("UPDATE session SET inbox_status = 'pending' WHERE inbox_status = 'completed'")
    assert len((await told()).split(",")) == 3
    assert heard.empty()


async def test_changes_are_told_from_a_cursor_on_also_those_that_were_not_committed_then(
    sandboxes: Sandboxes,
) -> None:
    shared, late, service = await sandboxes.shared(), await sandboxes.shared(), await sandboxes.service()
    before = await put(shared)
    transaction = late.transaction()
    await transaction.start()
    uncommitted = await put(late)
    cursor = await service.fetchval("SELECT sandbox.change_cursor()")
    after = await put(shared, status=None)
    changes = await service.fetch("SELECT * FROM sandbox.changes_since($1)", cursor)
    assert after in {change["id"] for change in changes}
    await transaction.commit()
    changes = await service.fetch("SELECT * FROM sandbox.changes_since($1)", cursor)
    assert {change["id"] for change in changes} - {before} == {uncommitted, after}
    cursor = await service.fetchval("SELECT sandbox.change_cursor()")
    await shared.execute("UPDATE session SET inbox_status = 'completed' WHERE id = $1", after)
    await shared.execute("DELETE FROM session WHERE id = $1", uncommitted)
    changes = await service.fetch("SELECT id, inbox_status, removed FROM sandbox.changes_since($1)", cursor)
    assert [tuple(change) for change in changes] == [(after, "completed", False), (uncommitted, None, True)]
    assert len(await service.fetch("SELECT * FROM sandbox.changes_since(0, 2)")) == 2


PLANS = {
    "claim": "coalesce(claimed_until, not_before, '-infinity'::timestamptz) = '-infinity'",
    "claim again": (
        "coalesce(claimed_until, not_before, '-infinity'::timestamptz) > '-infinity'"
        " AND coalesce(claimed_until, not_before, '-infinity'::timestamptz) <= now()"
    ),
}
ORDER = "ORDER BY coalesce(claimed_until, not_before, '-infinity'::timestamptz), created_at, id LIMIT 1"


async def test_a_claim_reads_its_index_and_sorts_nothing(sandboxes: Sandboxes) -> None:
    owner = await sandboxes.owner()
    await owner.execute(
        "INSERT INTO session (inbox_status, owner) SELECT (ARRAY['pending', 'completed'])[1 + n % 2]::inbox_status,"
        " (ARRAY['sessionuser', 'sandbox_one', 'sandbox_two'])[1 + n % 3] FROM generate_series(1, 20000) n"
    )
    await owner.execute("ANALYZE session")
    for restriction, index in (
        ("", "idx_session_claimable"),
        (" AND owner = 'sandbox_one' AND owner <> 'sessionuser'", "idx_session_claimable_by_owner"),
    ):
        for condition in PLANS.values():
            plan = await owner.fetch(
                "EXPLAIN SELECT id FROM session WHERE (inbox_status = 'pending' OR claim IS NOT NULL)"  # noqa: S608
                f" AND {condition}{restriction} {ORDER} FOR UPDATE SKIP LOCKED"
            )
            text = "\n".join(line[0] for line in plan)
            assert f"using {index} on" in text
            assert "Sort" not in text


async def test_retention_deletes_old_completed_rows_in_batches(sandboxes: Sandboxes) -> None:
    shared, service = await sandboxes.shared(), await sandboxes.service()
    await shared.execute(
        "INSERT INTO session (inbox_status, created_at) SELECT s, now() - age FROM"
        " unnest(ARRAY['completed', 'failed', 'pending', NULL]::inbox_status[]) s,"
        " unnest(ARRAY[interval '29 days', interval '31 days', interval '40 days']) age"
    )
    parent = await shared.fetchval(
        "SELECT id FROM session WHERE inbox_status = 'completed' ORDER BY created_at LIMIT 1"
    )
    child = await put(shared, status=None, parent=parent)
    deleted = [await service.fetchval("SELECT sandbox.delete_completed(interval '30 days', 1)") for _ in range(3)]
    assert deleted == [1, 1, 0]
    assert await shared.fetchval("SELECT count(*) FROM session WHERE inbox_status = 'completed'") == 1
    assert await shared.fetchval("SELECT count(*) FROM session") == 11
    assert await shared.fetchval("SELECT parent FROM session WHERE id = $1", child) is None
    assert await service.fetchval("SELECT count(*) FROM sandbox.removals") == 2
    owner = await sandboxes.owner()
    await owner.execute(
        "UPDATE sandbox.removals SET removed_at = now() - interval '61 minutes' WHERE id = $1", parent
    )
    await service.execute("SELECT sandbox.guard()")
    assert await service.fetchval("SELECT count(*) FROM sandbox.removals") == 1


async def test_the_service_reads_the_monitoring_views(sandboxes: Sandboxes) -> None:
    shared, service = await sandboxes.shared(), await sandboxes.service()
    assert await service.fetchval("SELECT age FROM sandbox.oldest_pending") is None
    await put(shared, created_at=await shared.fetchval("SELECT now() - interval '1 hour'"))
    await put(shared)
    await put(shared, status="completed")
    assert await service.fetchval("SELECT bytes FROM sandbox.database_size") > 1_000_000
    assert await service.fetchval("SELECT bytes FROM sandbox.table_size") > 8192
    counts = await service.fetch("SELECT inbox_status, sessions FROM sandbox.status_counts ORDER BY 1")
    assert [tuple(row) for row in counts] == [("pending", 2), ("completed", 1)]
    age = await service.fetchval("SELECT age FROM sandbox.oldest_pending")
    assert timedelta(hours=1) < age < timedelta(hours=2)
    connections = await service.fetch("SELECT role_name, connections FROM sandbox.connections")
    assert ("sessionuser", 1) in [tuple(row) for row in connections]
    assert await service.fetch("SELECT * FROM sandbox.slow_queries") == []
