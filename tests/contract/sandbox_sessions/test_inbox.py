"""The inbox over HTTP: claims and what becomes of them (docs/sandbox-sessions.md)."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from tests.support.metrics_reader import metric_total
from tests.support.sandbox_client import SandboxClient
from tests.support.servers import Database
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection: Sql = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_waits(client: SandboxClient, sql: Sql) -> None:
    await sql.execute("DELETE FROM session")


async def test_work_is_claimed_once_and_the_oldest_first(client: SandboxClient) -> None:
    made = [await client.create(messages=[n]) for n in range(3)]
    claimed = [await client.claim() for _ in range(4)]
    assert claimed[3] is None
    for before, work in zip(made, claimed, strict=False):
        assert work is not None
        assert list(work) == [*before, "claim"]
        assert work["inbox_status"] == "processing"
        assert (work["id"], work["messages"]) == (before["id"], before["messages"])


async def test_work_is_extended_and_completed_by_who_claimed_it(client: SandboxClient) -> None:
    made = await client.create(messages=["task"])
    work = await client.claim()
    assert work is not None
    status, row = await client.end(work, "extend", visibilitySeconds=60)
    assert (status, row["inbox_status"], "claim" in row) == (200, "processing", False)
    status, row = await client.end(work, "complete", messages=["task", "result"])
    assert (status, row["inbox_status"], row["messages"]) == (200, "completed", ["task", "result"])
    assert await client.get(made["id"]) == row
    for how, fields in (("extend", {"visibilitySeconds": 60}), ("complete", {}), ("fail", {})):
        status, body = await client.end(work, how, **fields)
        assert (status, body["code"]) == (409, "CLAIM_LOST")


async def test_messages_stay_where_none_are_given(client: SandboxClient) -> None:
    for fields in ({}, {"messages": None}):
        await client.create(messages=["task"])
        work = await client.claim()
        assert work is not None
        status, row = await client.end(work, "complete", **fields)
        assert (status, row["messages"]) == (200, ["task"])


async def test_work_that_failed_is_tried_again_or_given_up(client: SandboxClient, sql: Sql) -> None:
    for fields, expected in (({"error": "no luck"}, "pending"), ({"retry": False, "error": None}, "failed")):
        made = await client.create()
        work = await client.claim()
        assert work is not None
        status, row = await client.end(work, "fail", **fields)
        assert (status, row["inbox_status"]) == (200, expected)
        said = await sql.fetchval("SELECT last_error FROM session WHERE id = $1", made["id"])
        assert said == fields["error"]
    assert await client.claim() is None  # the first one's back-off is a second


async def test_after_its_last_attempt_work_is_failed(client: SandboxClient, sql: Sql) -> None:
    made = await client.create()
    await sql.execute("UPDATE session SET max_attempts = 1 WHERE id = $1", made["id"])
    work = await client.claim()
    assert work is not None
    status, row = await client.end(work, "fail")
    assert (status, row["inbox_status"]) == (200, "failed")


async def test_a_claim_that_ran_out_is_somebody_elses(client: SandboxClient) -> None:
    await client.create()
    lost = await client.claim("dies", visibilitySeconds=0.1)
    assert lost is not None
    work = await client.claim("lives", waitSeconds=30)
    assert work is not None
    assert work["id"] == lost["id"]
    status, body = await client.end(lost, "complete", messages="late")
    assert (status, body["code"]) == (409, "CLAIM_LOST")
    assert (await client.end(work, "complete"))[0] == 200


async def test_a_status_that_is_set_ends_a_claim(client: SandboxClient) -> None:
    made = await client.create()
    work = await client.claim()
    assert work is not None
    assert (await client.change(made["id"], inbox_status="pending"))["inbox_status"] == "pending"
    assert (await client.end(work, "complete"))[0] == 409
    again = await client.claim()
    assert again is not None
    assert (await client.change(made["id"], sbx_config={"a": 1}))["inbox_status"] == "processing"
    assert (await client.end(again, "complete"))[0] == 200


async def test_who_waits_gets_work_when_it_comes(client: SandboxClient) -> None:
    waiting = asyncio.ensure_future(client.claim(waitSeconds=30))
    await asyncio.sleep(0)
    made = await client.create(messages="here")
    work = await waiting
    assert work is not None
    assert (work["id"], work["messages"]) == (made["id"], "here")


async def test_who_waits_in_vain_is_told_so(client: SandboxClient) -> None:
    started = time.monotonic()
    assert await client.claim(waitSeconds=0.3) is None
    assert time.monotonic() - started >= 0.3


async def test_an_unknown_row_is_claimed_by_nobody(client: SandboxClient) -> None:
    work = {"id": str(uuid.uuid4()), "claim": str(uuid.uuid4())}
    for how, fields in (("extend", {"visibilitySeconds": 60}), ("complete", {}), ("fail", {})):
        status, body = await client.end(work, how, **fields)
        assert (status, body["code"]) == (409, "CLAIM_LOST")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("worker", ""),
        ("worker", "w" * 201),
        ("worker", "a\u0000"),
        ("worker", 1),
        ("worker", None),
        ("visibilitySeconds", 0),
        ("visibilitySeconds", 43_201),
        ("visibilitySeconds", "30"),
        ("visibilitySeconds", None),
        ("waitSeconds", -1),
        ("waitSeconds", 31),
        ("waitSeconds", "1"),
    ],
)
async def test_a_claim_that_cannot_be_is_refused_by_its_field(
    client: SandboxClient, field: str, value: object
) -> None:
    await client.create()
    status, body = await client.call("POST", "/claim", json={"worker": "w", field: value})
    assert (status, body["code"]) == (400, "INVALID_REQUEST")
    assert body["error"].startswith(f"{field}: ")
    assert await client.claim() is not None  # it took nothing


@pytest.mark.parametrize(
    ("how", "fields", "field"),
    [
        ("extend", {"claim": str(uuid.uuid4())}, "visibilitySeconds"),
        ("extend", {"claim": str(uuid.uuid4()), "visibilitySeconds": 0.01}, "visibilitySeconds"),
        ("extend", {"visibilitySeconds": 1}, "claim"),
        ("complete", {"claim": "x"}, "claim"),
        ("complete", {"claim": None}, "claim"),
        ("fail", {"claim": str(uuid.uuid4()), "error": "a\u0000"}, "error"),
        ("fail", {"claim": str(uuid.uuid4()), "retry": None}, "retry"),
    ],
)
async def test_an_end_that_cannot_be_is_refused_by_its_field(
    client: SandboxClient, how: str, fields: dict[str, object], field: str
) -> None:
    made = await client.create(inbox_status=None)
    status, body = await client.call("POST", f"/{made['id']}/{how}", json=fields)
    assert (status, body["code"]) == (400, "INVALID_REQUEST")
    assert body["error"].startswith(f"{field}: ")


async def test_a_client_that_leaves_while_it_waits_has_claimed_nothing(
    client: SandboxClient, service: Service, sql: Sql
) -> None:
    leaving = [asyncio.ensure_future(client.claim("leaves", waitSeconds=30)) for _ in range(5)]

    async def all_wait() -> bool:
        return await metric_total(service, "session_sandbox_waiters") == 5

    await eventually(all_wait, within_s=20, what="five wait")
    for call in leaving:
        call.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    made = await client.create()
    work = await client.claim("stays", waitSeconds=30)
    assert work is not None
    assert work["id"] == made["id"]
    assert await sql.fetchval("SELECT attempts FROM session WHERE id = $1", made["id"]) == 1
    assert await metric_total(service, "session_sandbox_waiters") == 0
