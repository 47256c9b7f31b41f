"""Document 004, "Session Management Features" and "Business Rules": what holds over several calls, also at once."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.support.named_client import NamedClient
from tests.support.servers import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 20


def active_titles(sessions: dict[str, bool]) -> list[str]:
    return [title for title, active in sessions.items() if active]


# --- creation ------------------------------------------------------------------------------------------------------


async def test_titles_are_unique_per_user_and_not_beyond(user: NamedClient, another_user: NamedClient) -> None:
    await user.create("A")
    await another_user.create("A")
    assert (await user.call("POST", "/", json={"title": "A"}))[0] == 409


async def test_titles_are_compared_as_they_are(user: NamedClient) -> None:
    """Case, spaces and Unicode's ways to write one letter make other titles."""
    titles = ["Plan", "plan", "Plan ", " Plan", "\u00e9", "e\u0301"]
    for title in titles:
        await user.create(title)
    assert list(await user.titles()) == titles


async def test_of_many_creations_with_one_title_one_is_made(user: NamedClient) -> None:
    answers = await asyncio.gather(*(user.call("POST", "/", json={"title": "A"}) for _ in range(AT_ONCE)))
    assert sorted(status for status, _body in answers) == [200] + [409] * (AT_ONCE - 1)
    assert await user.titles() == {"A": True}


async def test_a_new_session_is_active_and_the_one_before_is_not(user: NamedClient) -> None:
    await user.create("A")
    await user.create("B")
    assert await user.titles() == {"A": False, "B": True}


async def test_of_many_creations_at_once_one_session_is_active(user: NamedClient) -> None:
    titles = [f"session {number}" for number in range(AT_ONCE)]
    await asyncio.gather(*(user.create(title) for title in titles))
    sessions = await user.titles()
    assert sorted(sessions) == sorted(titles)
    assert len(active_titles(sessions)) == 1


# --- activation ----------------------------------------------------------------------------------------------------


async def test_activating_deactivates_the_one_before(user: NamedClient) -> None:
    for title in ("A", "B", "C"):
        await user.create(title)
    await user.call("POST", "/active/A")
    assert await user.titles() == {"A": True, "B": False, "C": False}


async def test_other_users_keep_their_active_session(user: NamedClient, another_user: NamedClient) -> None:
    theirs = await another_user.create("A")
    await user.create("A")
    await user.create("B")
    await user.call("POST", "/active/A")
    assert await another_user.active() == theirs


async def test_switching_is_seen_by_the_next_lookup(user: NamedClient) -> None:
    ids = {title: await user.create(title) for title in ("A", "B")}
    for title in ("A", "B", "A", "A", "B"):
        await user.call("POST", f"/active/{title}")
        assert await user.active() == ids[title]


async def test_of_many_switches_at_once_one_session_is_active(user: NamedClient) -> None:
    ids = {title: await user.create(title) for title in ("A", "B", "C")}
    answers = await asyncio.gather(
        *(user.call("POST", f"/active/{title}") for title in ("A", "B", "C") for _ in range(AT_ONCE // 3))
    )
    assert {status for status, _body in answers} == {200}
    (title,) = active_titles(await user.titles())
    assert await user.active() == ids[title]


async def test_a_failed_switch_deactivates_nothing(user: NamedClient) -> None:
    await user.create("A")
    assert (await user.call("POST", "/active/not-there"))[0] == 404
    assert await user.titles() == {"A": True}


# --- deletion ------------------------------------------------------------------------------------------------------


async def test_an_active_session_can_be_deleted_once_another_is_active(user: NamedClient) -> None:
    await user.create("A")
    assert (await user.call("DELETE", "/A"))[0] == 400
    await user.create("B")
    assert (await user.call("DELETE", "/A"))[0] == 200


async def test_the_row_of_a_deleted_session_is_gone(user: NamedClient, database: Database) -> None:
    session_id = await user.create("A")
    await user.create("B")
    await user.call("DELETE", "/A")
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        assert await connection.fetchval("SELECT count(*) FROM public.sessions WHERE id = $1", session_id) == 0
    finally:
        await connection.close()


async def test_a_deleted_session_cannot_be_deleted_or_activated(user: NamedClient) -> None:
    await user.create("A")
    await user.create("B")
    await user.call("DELETE", "/A")
    assert (await user.call("DELETE", "/A"))[0] == 404
    assert (await user.call("POST", "/active/A"))[0] == 404


async def test_the_title_of_a_deleted_session_is_free_again(user: NamedClient) -> None:
    first = await user.create("A")
    await user.create("B")
    await user.call("DELETE", "/A")
    assert await user.create("A") != first


async def test_of_many_deletions_of_one_session_one_succeeds(user: NamedClient) -> None:
    await user.create("A")
    await user.create("B")
    answers = await asyncio.gather(*(user.call("DELETE", "/A") for _ in range(AT_ONCE)))
    assert sorted(status for status, _body in answers) == [200] + [404] * (AT_ONCE - 1)


async def test_a_session_is_deleted_or_activated_and_never_both(user: NamedClient) -> None:
    await user.create("B")
    for number in range(AT_ONCE):
        await user.create("A")
        await user.call("POST", "/active/B")
        (deleted, _), (activated, _) = await asyncio.gather(user.call("DELETE", "/A"), user.call("POST", "/active/A"))
        assert (deleted, activated) in {(200, 404), (400, 200)}, number
        sessions = await user.titles()
        assert len(active_titles(sessions)) == 1
        if activated == 200:
            await user.call("POST", "/active/B")
            await user.call("DELETE", "/A")


# --- the table -----------------------------------------------------------------------------------------------------


async def test_what_the_database_holds_is_what_is_answered(user: NamedClient, database: Database) -> None:
    """PostgreSQL is the authoritative source: rows that another program writes count as those made here."""
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        session_id = await connection.fetchval(
            "INSERT INTO sessions (user_id, title, active) VALUES ($1, 'by hand', TRUE) RETURNING id::text",
            user.user_id,
        )
        assert await user.active() == session_id
        row = await connection.fetchrow("SELECT * FROM sessions WHERE id = $1", session_id)
        assert row is not None
        assert row["created_at"] is not None
        assert row["updated_at"] is not None
        await user.create("B")
        touched = await connection.fetchrow("SELECT * FROM sessions WHERE id = $1", session_id)
        assert touched is not None
        assert (touched["active"], touched["created_at"]) == (False, row["created_at"])
        assert touched["updated_at"] > row["updated_at"]
    finally:
        await connection.close()


async def test_an_inserted_row_is_not_active_unless_it_says_so(user: NamedClient, database: Database) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        await connection.execute("INSERT INTO sessions (user_id, title) VALUES ($1, 'by hand')", user.user_id)
    finally:
        await connection.close()
    assert await user.titles() == {"by hand": False}
    assert (await user.try_active())[0] == 404
    assert (await user.call("DELETE", "/by%20hand"))[0] == 200
