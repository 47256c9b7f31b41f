"""Rows over HTTP: made, read, changed, deleted, in trees, and told of in pages."""

from __future__ import annotations

import asyncio
import base64
import uuid

import asyncpg
import pytest

from tests.support.sandbox_client import SandboxClient
from tests.support.servers import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROW = ["id", "messages", "inbox_status", "sbx_config", "parent", "created_at", "updated_at"]


async def test_a_new_session_is_pending_work_and_nothing_else(client: SandboxClient) -> None:
    made = await client.create()
    assert list(made) == ROW
    assert made["inbox_status"] == "pending"
    assert (made["messages"], made["sbx_config"], made["parent"]) == (None, None, None)
    assert made["created_at"] == made["updated_at"]
    assert made["created_at"].endswith("Z")
    assert await client.get(made["id"]) == made


async def test_a_session_may_be_no_work(client: SandboxClient) -> None:
    for status in (None, "completed", "failed", "processing"):
        made = await client.create(inbox_status=status, messages={"a": [1]}, sbx_config=False)
        assert (made["inbox_status"], made["messages"], made["sbx_config"]) == (status, {"a": [1]}, False)


async def test_absent_and_null_differ_in_a_change(client: SandboxClient) -> None:
    parent = await client.create(inbox_status=None)
    made = await client.create(messages=[1], sbx_config={"cpu": 1}, parent=parent["id"], inbox_status="failed")
    assert await client.change(made["id"]) == made  # nothing changed, not even its updated_at
    changed = await client.change(made["id"], sbx_config=None)
    assert changed["sbx_config"] is None
    assert changed["updated_at"] > made["updated_at"]
    for field, value in (("messages", [1]), ("parent", parent["id"]), ("inbox_status", "failed")):
        assert changed[field] == value
    changed = await client.change(made["id"], messages=None, parent=None, inbox_status=None)
    assert [changed[field] for field in ROW[1:5]] == [None, None, None, None]
    changed = await client.change(made["id"], messages="text", parent=parent["id"], inbox_status="completed")
    assert [changed[field] for field in ROW[1:5]] == ["text", "completed", None, parent["id"]]
    assert changed["created_at"] == made["created_at"]


async def test_unknown_fields_are_ignored_as_everywhere(client: SandboxClient) -> None:
    made = await client.create(id=str(uuid.uuid4()), owner="somebody", created_at="2000-01-01", messages=[])
    assert made["created_at"] > "2020"
    assert (await client.change(made["id"], claim=str(uuid.uuid4())))["inbox_status"] == "pending"


async def test_a_deleted_session_leaves_its_children(client: SandboxClient) -> None:
    parent = await client.create(inbox_status=None)
    child = await client.create(inbox_status=None, parent=parent["id"])
    assert await client.call("DELETE", f"/{parent['id']}") == (204, None)
    assert (await client.get(child["id"]))["parent"] is None
    for method in ("GET", "DELETE"):
        status, body = await client.call(method, f"/{parent['id']}")
        assert (status, body["code"]) == (404, "SESSION_NOT_FOUND")


async def test_of_many_messages_at_once_all_stay(client: SandboxClient) -> None:
    made = await client.create(messages={"first": True})
    answers = await asyncio.gather(
        *(client.call("POST", f"/{made['id']}/messages", json={"message": n}) for n in range(20))
    )
    assert {status for status, _body in answers} == {200}
    messages = (await client.get(made["id"]))["messages"]
    assert messages[0] == {"first": True}
    assert sorted(messages[1:]) == list(range(20))
    status, row = await client.call("POST", f"/{made['id']}/messages", json={"message": None})
    assert (status, list(row), row["messages"][-1]) == (200, ROW, None)


async def test_children_come_level_by_level(client: SandboxClient) -> None:
    root = await client.create(inbox_status=None)
    first = await client.create(inbox_status=None, parent=root["id"])
    second = await client.create(inbox_status=None, parent=root["id"])
    below = await client.create(inbox_status=None, parent=first["id"])
    for query, expected in (("", [first, second]), ("?depth=2", [first, second, below])):
        assert await client.call("GET", f"/{root['id']}/children{query}") == (
            200,
            {"sessions": expected, "truncated": False},
        )
    assert await client.call("GET", f"/{below['id']}/children") == (200, {"sessions": [], "truncated": False})


async def test_no_session_stands_above_itself(client: SandboxClient) -> None:
    root = await client.create(inbox_status=None)
    child = await client.create(inbox_status=None, parent=root["id"])
    for parent in (root["id"], child["id"]):
        status, body = await client.call("PATCH", f"/{root['id']}", json={"parent": parent})
        assert (status, body["code"]) == (400, "INVALID_REQUEST")
        assert body["error"].startswith("parent: ")


async def test_pages_are_stable_while_sessions_come_and_go(client: SandboxClient) -> None:
    root = await client.create(inbox_status=None)
    there = [(await client.create(inbox_status="failed", parent=root["id"]))["id"] for _ in range(7)]
    page = await client.page(parent=root["id"], limit=3)
    assert [session["id"] for session in page["sessions"]] == there[:3]
    await client.call("DELETE", f"/{there[2]}")  # the one that the cursor names
    await client.call("DELETE", f"/{there[4]}")
    added = (await client.create(inbox_status="failed", parent=root["id"]))["id"]
    page = await client.page(parent=root["id"], limit=3, cursor=page["cursor"])
    assert [session["id"] for session in page["sessions"]] == [there[3], there[5], there[6]]
    page = await client.page(parent=root["id"], limit=3, cursor=page["cursor"])
    assert ([session["id"] for session in page["sessions"]], page["cursor"]) == ([added], None)


async def test_a_list_has_filters(client: SandboxClient) -> None:
    root = await client.create(inbox_status=None)
    made = {
        status: (await client.create(inbox_status=status, parent=root["id"]))["id"]
        for status in ("failed", "completed", "processing")
    }
    assert await client.walk(parent=root["id"], status="completed") == [made["completed"]]
    assert await client.walk(parent=root["id"], limit=1) == list(made.values())
    failed = await client.walk(status="failed", limit=2)
    assert made["failed"] in failed
    assert made["completed"] not in failed
    assert await client.walk(parent=str(uuid.uuid4())) == []


async def test_a_page_is_bounded_in_bytes_too(client: SandboxClient) -> None:
    root = await client.create(inbox_status=None)
    large = "a" * 1_000_000
    ids = [(await client.create(inbox_status=None, parent=root["id"], messages=large))["id"] for _ in range(7)]
    page = await client.page(parent=root["id"])
    assert 1 < len(page["sessions"]) < 7
    assert page["cursor"] is not None
    assert await client.walk(parent=root["id"]) == ids
    status, body = await client.call("GET", f"/{root['id']}/children")
    assert (status, body["truncated"]) == (200, True)
    assert 1 < len(body["sessions"]) < 7


async def test_instants_that_only_sql_can_set_are_shown_and_passed(client: SandboxClient, database: Database) -> None:
    """RFC 3339 ends with the year 9999; PostgreSQL has infinity."""
    root = await client.create(inbox_status=None)
    connection = await asyncpg.connect(database.owner_dsn)
    instants = ["-infinity", "0044-03-15 00:00:00 BC", "2026-01-01 00:00:00.123456", "294276-01-01", "infinity"]
    ids = []
    for instant in instants:
        made = await connection.fetchval(
            "INSERT INTO session (parent, created_at) VALUES ($1, $2::text::timestamptz) RETURNING id::text",
            root["id"],
            instant,
        )
        ids.append(made)
    await connection.close()
    assert await client.walk(parent=root["id"], limit=1) == ids
    shown = [session["created_at"] for session in (await client.page(parent=root["id"]))["sessions"]]
    assert shown == [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123456Z",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.999999Z",
    ]


@pytest.mark.parametrize(
    "query",
    [
        "status=done",
        "status=",
        "parent=x",
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=1e1",
        "limit=",
        "cursor=",
        "cursor=!",
        "cursor=bm9uc2Vuc2U",
        *(
            "cursor=" + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
            for text in (
                "2026-01-01 00:00:00+00 nonsense",
                "2026-13-01 00:00:00+00 00000000-0000-4000-8000-000000000000",
                "999999-01-01 00:00:00+00 00000000-0000-4000-8000-000000000000",
                "0000000000000000000 00000000-0000-4000-8000-000000000000",
                "'; DROP TABLE session; -- 00000000-0000-4000-8000-000000000000",
            )
        ),
    ],
)
async def test_a_query_that_cannot_be_is_refused_by_its_name(client: SandboxClient, query: str) -> None:
    status, body = await client.call("GET", f"?{query}")
    assert (status, body["code"]) == (400, "INVALID_REQUEST")
    assert body["error"].startswith(f"{query.split('=', maxsplit=1)[0]}: ")


@pytest.mark.parametrize("depth", ["0", "101", "x", ""])
async def test_a_depth_that_cannot_be_is_refused(client: SandboxClient, depth: str) -> None:
    made = await client.create(inbox_status=None)
    status, body = await client.call("GET", f"/{made['id']}/children?depth={depth}")
    assert (status, body["code"], body["error"].split(":")[0]) == (400, "INVALID_REQUEST", "depth")
