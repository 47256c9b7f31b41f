"""Parents, children and messages."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.sandboxes import Sandboxes, put
from tests.support.sql import Sql

MANY_DIGITS = "('[' || repeat('1e131071,', 100) || '1]')::jsonb"


async def chain(connection: Sql, length: int) -> list[UUID]:
    """A row, one below it, one below that, …"""
    made: list[UUID] = []
    for _ in range(length):
        made.append(await put(connection, status=None, parent=made[-1] if made else None))
    return made


async def below(connection: Sql, row: UUID, depth: int) -> list[UUID]:
    return [found["id"] for found in await connection.fetch("SELECT id FROM session_children($1, $2)", row, depth)]


async def test_children_are_found_level_by_level(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    top, middle, bottom = await chain(shared, 3)
    second = await put(shared, parent=top)
    assert await below(shared, top, 1) == [middle, second]
    assert await below(shared, top, 100) == [middle, second, bottom]
    assert await below(shared, bottom, 1) == await below(shared, uuid4(), 1) == []
    rows = await shared.fetch("SELECT id FROM session_children($1, 100, 2)", top)
    assert [row["id"] for row in rows] == [middle, second]


async def test_a_deleted_parent_leaves_its_children_without_one(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    top, middle, _bottom = await chain(shared, 3)
    await shared.execute("DELETE FROM session WHERE id = $1", top)
    assert await shared.fetchval("SELECT parent FROM session WHERE id = $1", middle) is None


async def test_a_ring_is_refused(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    top, middle, bottom = await chain(shared, 3)
    for moved, parent in ((top, top), (top, middle), (top, bottom)):
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await shared.execute("UPDATE session SET parent = $2 WHERE id = $1", moved, parent)
        assert (caught.value.constraint_name, caught.value.column_name) == ("session_parent_cycle", "parent")
    itself = uuid4()
    with pytest.raises(asyncpg.CheckViolationError):
        await shared.execute("INSERT INTO session (id, parent) VALUES ($1, $1)", itself)
    await shared.execute("UPDATE session SET parent = $2 WHERE id = $1", bottom, top)
    assert set(await below(shared, top, 1)) == {middle, bottom}


async def test_two_moves_at_once_make_no_ring(sandboxes: Sandboxes) -> None:
    one, other = await sandboxes.shared(), await sandboxes.shared()
    for _ in range(10):
        first, second = await put(one), await put(one)
        await asyncio.gather(
            one.execute("UPDATE session SET parent = $2 WHERE id = $1", first, second),
            other.execute("UPDATE session SET parent = $2 WHERE id = $1", second, first),
            return_exceptions=True,
        )
        parents = await one.fetch("SELECT parent FROM session WHERE id = ANY ($1)", [first, second])
        assert [row["parent"] for row in parents].count(None) >= 1


async def test_of_two_moves_of_which_neither_sees_the_other_one_is_ended(sandboxes: Sandboxes) -> None:
    one, other = await sandboxes.shared(), await sandboxes.shared()
    first, second = await put(one), await put(one)
    outcomes = []
    transactions = [one.transaction(), other.transaction()]
    for transaction in transactions:
        await transaction.start()
    # Each has its own row in hand before either looks at the other's.
    await one.execute("UPDATE session SET messages = '[]' WHERE id = $1", first)
    await other.execute("UPDATE session SET messages = '[]' WHERE id = $1", second)
    for transaction, made in zip(
        transactions,
        await asyncio.gather(
            one.execute("UPDATE session SET parent = $2 WHERE id = $1", first, second),
            other.execute("UPDATE session SET parent = $2 WHERE id = $1", second, first),
            return_exceptions=True,
        ),
        strict=True,
    ):
        outcomes.append(type(made))
        await (transaction.rollback() if isinstance(made, BaseException) else transaction.commit())
    assert sorted(outcome.__name__ for outcome in outcomes) == ["DeadlockDetectedError", "str"]


async def test_a_child_belongs_to_its_parents_owner_also_when_it_moves(sandboxes: Sandboxes) -> None:
    shared, own = await sandboxes.shared(), await sandboxes.own("one")
    mine = await put(own)
    given = await put(shared, parent=mine)
    top, middle, bottom = await chain(shared, 3)
    assert {row["id"] for row in await own.fetch("SELECT id FROM session")} == {mine, given}
    await shared.execute("UPDATE session SET parent = $2 WHERE id = $1", top, mine)
    assert set(await below(own, mine, 100)) == {given, top, middle, bottom}
    await own.execute("UPDATE session SET parent = NULL WHERE id = $1", top)
    assert await own.fetchval("SELECT owner FROM session WHERE id = $1", bottom) == "sandbox_one"


async def test_an_appended_message_is_the_last_of_an_array(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    for before, after in (
        (None, [{"n": 1}]),
        ("null", [{"n": 1}]),
        ("[]", [{"n": 1}]),
        ("[0]", [0, {"n": 1}]),
        ('{"msg": "Hello"}', [{"msg": "Hello"}, {"n": 1}]),
        ('"text"', ["text", {"n": 1}]),
    ):
        made = await put(shared, messages=before)
        row = await shared.fetchrow("SELECT * FROM session_append_message($1, $2)", made, '{"n": 1}')
        assert row is not None
        assert json.loads(row["messages"]) == after
        assert row["updated_at"] > row["created_at"]
    row = await shared.fetchrow("SELECT * FROM session_append_message($1, '[2, 3]')", made)
    assert row is not None
    assert json.loads(row["messages"])[-1] == [2, 3]  # an array is one message
    with pytest.raises(asyncpg.NullValueNotAllowedError):
        await shared.execute("SELECT session_append_message($1, NULL)", made)
    with pytest.raises(asyncpg.NoDataFoundError, match="SESSION_NOT_FOUND"):
        await shared.execute("SELECT session_append_message($1, '1')", uuid4())


async def test_of_many_appends_at_once_all_stay(sandboxes: Sandboxes) -> None:
    connections = [await sandboxes.shared() for _ in range(8)]
    made = await put(connections[0], messages='{"msg": "Hello"}')

    async def append(connection: Sql, first: int) -> None:
        for number in range(first, first + 25):
            await connection.execute("SELECT session_append_message($1, to_jsonb($2::int))", made, number)

    await asyncio.gather(*(append(connection, 25 * place) for place, connection in enumerate(connections)))
    stored = json.loads(await connections[0].fetchval("SELECT messages FROM session WHERE id = $1", made))
    assert stored[0] == {"msg": "Hello"}
    assert sorted(stored[1:]) == list(range(200))


async def test_what_is_too_large_is_refused_by_the_name_of_its_field(sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    made = await put(shared, messages=json.dumps(["x" * 1_000_000]))
    for statement, constraint in (
        ("SELECT session_append_message($1, to_jsonb(repeat('y', 100000)))", "session_messages_size"),
        ("UPDATE session SET messages = to_jsonb(repeat('y', 1048600)) WHERE id = $1", "session_messages_size"),
        ("UPDATE session SET sbx_config = to_jsonb(repeat('y', 1048600)) WHERE id = $1", "session_sbx_config_size"),
        # A few bytes each, and gigabytes as text.
        (f"UPDATE session SET messages = {MANY_DIGITS} WHERE id = $1", "session_messages_size"),  # noqa: S608 - of the test
        (f"SELECT session_append_message($1, {MANY_DIGITS})", "session_messages_size"),
    ):
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await shared.execute(statement, made)
        assert caught.value.constraint_name == constraint
