"""Rows of ``session.sockets``: who is connected where. Every method is one statement.

DatabaseUnavailableError may come from each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import asyncpg
import msgspec

from session_service.aiokit.batching import Batcher
from session_service.database.postgres import REQUEST_LIMIT_S, Postgres
from session_service.database.records import in_places, simulator_of
from session_service.database.sql_files import Queries
from session_service.domain.session import CROWDED
from session_service.domain.simulator import Simulator
from session_service.errors import (
    ConnectionReplacedError,
    DatabaseUnavailableError,
    SessionExpiredError,
    SessionNotFoundError,
)

SocketKind = Literal["websocket", "sse"]
_BATCH = 64  # sockets in a statement: some 20 ms of PostgreSQL's time
_BATCHES = 2  # at a time, of the pool's connections
Verdict = Literal["ended", "expired", "evicted", "replaced"]


class SocketRow(msgspec.Struct, frozen=True):
    """``arrival``: its number, given when it was counted. Of one client the highest (attempt, arrival) stays."""

    session_id: str
    client_id: str
    attempt: int
    kind: SocketKind
    arrival: int


class Counted(msgspec.Struct, frozen=True):
    """A socket that is counted now. ``simulator``: the session's live one, else its newest.

    ``connections``: how many its session has over all pods, those of pods that go left out.
    """

    arrival: int
    connections: int
    simulator: Simulator | None


class _Opening(msgspec.Struct, frozen=True):
    session_id: str
    client_id: str
    pod_id: str
    attempt: int
    kind: SocketKind
    fields: Mapping[str, Any]
    reconnect_as: str | None


class _Closing(msgspec.Struct, frozen=True):
    row: SocketRow
    fields: Mapping[str, Any]
    by_client: bool


class Tally(msgspec.Struct, frozen=True):
    """What PostgreSQL counts for a pod; ``expired``, ``crowded``: which of their sessions are so."""

    sockets: int
    arrivals: int
    expired: frozenset[str]
    crowded: frozenset[str]


class Evicted(msgspec.Struct, frozen=True):
    client_id: str
    arrival: int


class LostSocket(msgspec.Struct, frozen=True):
    """A socket that has to be closed, and why. ``due_in_s``: not before, so that a newer one has its first frame."""

    session_id: str
    arrival: int
    verdict: Verdict
    due_in_s: float = 0.0


class SocketRepository:
    def __init__(self, postgres: Postgres, queries: Queries, *, timeout_s: int) -> None:
        self._postgres = postgres
        self._queries = queries
        self._timeout_s = float(timeout_s)
        self._openings = Batcher(
            self._open_together, limit=_BATCH, width=_BATCHES, within_s=REQUEST_LIMIT_S, late=DatabaseUnavailableError
        )
        self._closings = Batcher(
            self._close_together,
            limit=_BATCH,
            width=_BATCHES,
            within_s=REQUEST_LIMIT_S,
            late=DatabaseUnavailableError,
        )

    async def open(
        self,
        session_id: str,
        client_id: str,
        attempt: int,
        kind: SocketKind,
        pod_id: str,
        fields: Mapping[str, Any],
        *,
        reconnect_as: str | None,
    ) -> Counted:
        """Count a socket; ``reconnect_as``: count a reconnect as well, of this client (``""``: of one without an id).

        Calls that come together make one statement. Repeatable: the second call gives the socket another number, and
        the first one's row is its own. Raises SessionNotFoundError, SessionExpiredError; ConnectionReplacedError
        where a later attempt of the same client is connected already.
        """
        opening = _Opening(session_id, client_id, pod_id, attempt, kind, fields, reconnect_as)
        record = await self._openings.call(opening) or await self._open_alone(opening)
        match record["outcome"]:
            case "not_found":
                raise SessionNotFoundError
            case "expired":
                raise SessionExpiredError
            case "replaced":
                raise ConnectionReplacedError
        simulator = None if record["simulator_id"] is None else simulator_of(record)
        return Counted(record["opened_arrival"], record["connections"], simulator)

    async def _open_alone(self, opening: _Opening) -> asyncpg.Record:
        record = await self._postgres.fetch_row(
            self._queries["sockets.open"],
            opening.session_id,
            opening.client_id,
            opening.pod_id,
            opening.attempt,
            opening.kind,
            self._timeout_s,
            opening.fields,
            opening.reconnect_as,
            CROWDED,
            operation="open_socket",
            repeatable=True,
        )
        assert record is not None  # noqa: S101 - the function returns one row, always
        return record

    async def _open_together(self, openings: Sequence[_Opening]) -> list[asyncpg.Record | None]:
        """None for those that have to be opened alone: another transaction holds their session."""
        if len(openings) == 1:
            return [await self._open_alone(openings[0])]
        records = await self._postgres.fetch(
            self._queries["sockets.open_many"],
            [one.session_id for one in openings],
            [one.client_id for one in openings],
            [one.pod_id for one in openings],
            [one.attempt for one in openings],
            [one.kind for one in openings],
            self._timeout_s,
            [one.fields for one in openings],
            [one.reconnect_as for one in openings],
            CROWDED,
            operation="open_sockets",
            repeatable=True,
        )
        return in_places(records, len(openings))

    async def close(self, row: SocketRow, fields: Mapping[str, Any], *, by_client: bool) -> bool:
        """Uncount a socket. False: its row had gone before, to a newer socket of the client or with the session.

        Calls that come together make one statement.
        """
        closing = _Closing(row, fields, by_client)
        was_there = await self._closings.call(closing)
        return await self._close_alone(closing) if was_there is None else was_there

    async def _close_alone(self, closing: _Closing) -> bool:
        row = closing.row
        was_there: bool = await self._postgres.fetch_value(
            self._queries["sockets.close"],
            row.session_id,
            row.client_id,
            row.arrival,
            closing.by_client,
            closing.fields,
            operation="close_socket",
            repeatable=True,
        )
        return was_there

    async def _close_together(self, closings: Sequence[_Closing]) -> list[bool | None]:
        if len(closings) == 1:
            return [await self._close_alone(closings[0])]
        records = await self._postgres.fetch(
            self._queries["sockets.close_many"],
            [one.row.session_id for one in closings],
            [one.row.client_id for one in closings],
            [one.row.arrival for one in closings],
            [one.by_client for one in closings],
            [one.fields for one in closings],
            operation="close_sockets",
            repeatable=True,
        )
        places = in_places(records, len(closings))
        return [None if record is None else record["was_there"] for record in places]

    async def reinstate(self, row: SocketRow) -> None:
        """``row`` ended before its first frame: an older socket of its client on another pod may count again."""
        await self._postgres.execute(
            self._queries["sockets.reinstate"],
            row.session_id,
            row.client_id,
            operation="reinstate_socket",
            repeatable=True,
        )

    async def tally(self, pod_id: str) -> Tally:
        record = await self._postgres.fetch_row(
            self._queries["sockets.tally"], pod_id, operation="tally_sockets", repeatable=True
        )
        assert record is not None  # noqa: S101 - an aggregate returns one row, always
        return Tally(
            record["sockets"],
            record["arrivals"],
            frozenset(record["expired"] or ()),
            frozenset(record["crowded"] or ()),
        )

    async def assert_own(self, rows: Sequence[SocketRow], pod_id: str, grace_s: float) -> list[LostSocket]:
        """Write again what is missing of ``rows``; which of them have to be closed.

        ``grace_s``: one that a newer socket has replaced is due when that has been there for so long.
        """
        records = await self._postgres.fetch(
            self._queries["sockets.assert_own"],
            pod_id,
            [row.session_id for row in rows],
            [row.client_id for row in rows],
            [row.arrival for row in rows],
            [row.attempt for row in rows],
            [row.kind for row in rows],
            grace_s,
            operation="assert_sockets",
            repeatable=True,
        )
        return [LostSocket(r["lost_session_id"], r["lost_arrival"], r["verdict"], r["due_in_s"]) for r in records]

    async def strays(self, open_rows: Sequence[SocketRow], pod_id: str) -> list[SocketRow]:
        """This pod's rows beside ``open_rows``."""
        records = await self._postgres.fetch(
            self._queries["sockets.strays"],
            pod_id,
            [row.arrival for row in open_rows],
            operation="find_stray_sockets",
            repeatable=True,
        )
        return [SocketRow(r["session_id"], r["client_id"], r["attempt"], r["kind"], r["arrival"]) for r in records]

    async def evict(self, session_id: str, arrival: int, limit: int, silent_s: Mapping[int, float]) -> list[Evicted]:
        """Mark the most silent sockets of a session that has more than ``limit``, never ``arrival``; which these are.

        ``silent_s``: for how long the caller's own sockets have said nothing, by arrival.
        """
        records = await self._postgres.fetch(
            self._queries["sockets.evict"],
            session_id,
            arrival,
            limit,
            list(silent_s),
            list(silent_s.values()),
            operation="evict_sockets",
        )
        return [Evicted(record["client_id"], record["arrival"]) for record in records]

    async def hear(self, silent_s: Mapping[tuple[str, int], float]) -> dict[str, int]:
        """Write when sockets, by session and arrival, were last heard; how many connections their sessions have."""
        records = await self._postgres.fetch(
            self._queries["sockets.hear"],
            [session_id for session_id, _arrival in silent_s],
            [arrival for _session_id, arrival in silent_s],
            list(silent_s.values()),
            CROWDED,
            operation="hear_sockets",
        )
        return {record["session_id"]: record["connections"] for record in records}

    async def simulators_changed(self, pod_id: str, since: int) -> tuple[int, list[Simulator]]:
        """The simulators of this pod's sockets that changed since an earlier call returned ``since`` (0: all).

        Returns what to ask from next time, and them: some may come twice, none is left out.
        """
        records = await self._postgres.fetch(
            self._queries["sockets.simulators_changed"],
            pod_id,
            since,
            operation="find_changed_simulators",
            repeatable=True,
        )
        changed = [simulator_of(record) for record in records if record["simulator_id"] is not None]
        return records[0]["next"], changed
