"""``GET /api/v1/sandbox-sessions/events`` over real pods: nothing is missed, whatever comes between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import pytest

from tests.support.change_stream import PATH, ChangeStream
from tests.support.sandboxes import Sandboxes, put
from tests.support.service import Service, bearer
from tests.support.sql import Sql
from tests.support.waiting import eventually

MakeService = Callable[..., object]


async def test_changes_by_whatever_means_are_told(service: Service, sandboxes: Sandboxes) -> None:
    shared = await sandboxes.shared()
    before = await put(shared)
    stream = ChangeStream()
    async with stream.open(service.url):
        made = await put(shared)
        await stream.saw(made, "pending")
        claim = await shared.fetchrow("SELECT id, claim FROM session_claim('worker')")
        assert claim is not None
        assert claim["id"] == before
        await stream.saw(before, "processing")
        await shared.execute("SELECT session_complete($1, $2)", claim["id"], claim["claim"])
        await stream.saw(before, "completed")
        await shared.execute("UPDATE session SET inbox_status = NULL WHERE id = $1", made)
        await stream.saw(made, None)
        await shared.execute("DELETE FROM session WHERE id = $1", made)
        await stream.saw(made, None, removed=True)
    assert stream.resets == []
    assert len(stream.told) == len(stream.changes)


async def test_who_may_read_it(service: Service) -> None:
    for headers, status, code in (
        ({}, 401, "AUTHENTICATION_FAILED"),
        (bearer(), 403, "FORBIDDEN"),
        (bearer(scope="simulators"), 403, "FORBIDDEN"),
    ):
        async with service.http.get(PATH, headers=headers) as response:
            assert response.status == status
            assert (await response.json())["code"] == code


@pytest.mark.parametrize(
    ("event_id", "reason"),
    [
        ("", "unknown_id"),
        ("42", "unknown_id"),
        ("'; DROP TABLE session --", "unknown_id"),
        ("1763000000:3:2::7-00000001-a", "unknown_id"),
        ("1763000000:3:9223372036854775808::7-00000001-a", "unknown_id"),
        ("1763000000:5:5::7-00000001-a", "other_history"),
    ],
)
async def test_an_id_that_is_not_from_here_is_answered_by_a_reset(
    service: Service, event_id: str, reason: str
) -> None:
    stream = ChangeStream()
    stream.last_event_id = event_id
    async with stream.open(service.url, resumed=True):
        assert stream.resets == [reason]
    # The id that came with it is good.
    async with stream.open(service.url, resumed=True):
        assert stream.resets == [reason]


async def test_ids_of_the_future_and_of_long_ago(service: Service) -> None:
    stream = ChangeStream()
    async with stream.open(service.url):
        pass
    assert stream.last_event_id is not None
    at_s, xmin, xmax, in_progress, origin = stream.last_event_id.split(":")
    for changed, reason in (
        (f"{at_s}:{xmin}:{int(xmax) + 10**9}:{in_progress}:{origin}", "other_history"),
        (f"{int(at_s) - 3600}:{xmin}:{xmax}:{in_progress}:{origin}", "too_old"),
        (f"{int(at_s) + 3600}:{xmin}:{xmax}:{in_progress}:{origin}", "too_old"),
    ):
        stream.resets.clear()
        stream.last_event_id = changed
        async with stream.open(service.url, resumed=True):
            assert stream.resets == [reason], changed


async def test_resumed_over_two_pods_amid_transactions_that_overlap(
    make_service: MakeService, sandboxes: Sandboxes
) -> None:
    """200 changes by eight writers whose transactions overlap, one of them open all the while."""
    pods: list[Service] = [await make_service(POD_NAME=f"pod-{n}") for n in (1, 2)]  # type: ignore[misc] # as in conftest
    owner = await sandboxes.owner()
    ids = [await put(owner) for _ in range(50)]
    held_id, *writer_ids = ids
    held = await sandboxes.shared()
    writers = [await sandboxes.shared() for _ in range(8)]
    expected: set[tuple[str, int]] = set()

    async def write(connection: Sql, mine: list[UUID], rounds: int) -> None:
        for number in range(rounds):
            async with connection.transaction():
                for one in mine[number % len(mine) :: 2]:
                    status = ("processing", "completed", "failed", "pending")[number % 4]
                    changed_in = await connection.fetchval(
                        "UPDATE session SET inbox_status = $2 WHERE id = $1 RETURNING changed_in", one, status
                    )
                    last[str(one)] = changed_in

    last: dict[str, int] = {}
    stream = ChangeStream()
    async with stream.open(pods[0].url):
        pass
    transaction = held.transaction()
    await transaction.start()
    last[str(held_id)] = await held.fetchval(
        "UPDATE session SET inbox_status = 'failed' WHERE id = $1 RETURNING changed_in", held_id
    )
    writing = asyncio.gather(
        *(write(connection, writer_ids[n::8], 25) for n, connection in enumerate(writers)), return_exceptions=False
    )
    opened = 0
    while not writing.done():
        async with stream.open(pods[opened % 2].url, resumed=True):
            seen = len(stream.changes)

            async def more(seen: int = seen) -> bool:
                return len(stream.changes) > seen or writing.done()

            await eventually(more, within_s=30, what="more changes")
        opened += 1
    await writing
    assert str(held_id) not in stream.last
    await transaction.commit()
    expected = set(last.items())

    async def all_told() -> bool:
        return expected <= stream.told

    async with stream.open(pods[opened % 2].url, resumed=True):
        await eventually(all_told, within_s=30, what="the last change of each row")
    assert stream.resets == []
    rows = await owner.fetch(
        "SELECT id::text AS id, inbox_status::text AS status FROM session WHERE id = ANY ($1)", ids
    )
    assert {row["id"]: row["status"] for row in rows} == {
        change.id: change.inbox_status for change in stream.last.values()
    }
