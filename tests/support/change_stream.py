"""A client of ``GET /api/v1/sandbox-sessions/events`` that remembers what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from tests.support.service import bearer
from tests.support.waiting import eventually

PATH = "/api/v1/sandbox-sessions/events"


class Change(msgspec.Struct, frozen=True):
    id: str
    inbox_status: str | None
    removed: bool
    changed_in: int


class ChangeStream:
    """Reads from ``open`` on, in a task of its own, for as long as that lasts; it may be opened again.

    ``changes``: in the order in which they were told, over all openings. ``last_event_id`` as browsers keep it.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.resets: list[str] = []
        self.comments = 0
        self.last_event_id: str | None = None
        self.ended = False  # the service has ended the stream

    @property
    def told(self) -> set[tuple[str, int]]:
        return {(change.id, change.changed_in) for change in self.changes}

    @property
    def last(self) -> dict[str, Change]:
        """The last change of each row."""
        return {change.id: change for change in self.changes}

    @asynccontextmanager
    async def open(self, url: str, *, resumed: bool = False) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open the stream, by Last-Event-ID where ``resumed``; returns when it has its first id."""
        headers = {**bearer(scope="sandbox"), "Accept": "text/event-stream"}
        if resumed and self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        self.ended = False
        seen, self._ids = self.last_event_id, 0
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with (
            aiohttp.ClientSession(url, timeout=timeout, read_bufsize=2**20) as http,
            http.get(PATH, headers=headers) as response,
        ):
            assert response.status == 200, await response.text()
            reading = asyncio.create_task(self._read(response))
            try:
                await eventually(self._has_id, within_s=20, what=f"an id after {seen}")
                yield response
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    async def saw(self, session_id: object, status: str | None, *, removed: bool = False) -> Change:
        """The last change of a row, once it is that."""

        async def look() -> Change | None:
            change = self.last.get(str(session_id))
            return change if change and (change.inbox_status, change.removed) == (status, removed) else None

        found = await eventually(look, within_s=30, what=f"{session_id} {status} removed={removed}")
        assert found is not None
        return found

    async def _has_id(self) -> bool:
        return self._ids > 0

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        lines: list[str] = []
        async for raw in response.content:
            line = raw.decode().rstrip("\n")
            if line:
                lines.append(line)
                continue
            self._take(lines)
            lines = []
        self.ended = True

    def _take(self, lines: list[str]) -> None:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            else:
                self.comments += 1
        if "id" in fields:
            self.last_event_id = fields["id"]
            self._ids += 1
        match fields.get("event"):
            case "change":
                self.changes.append(msgspec.json.decode(fields["data"], type=Change))
            case "reset":
                self.resets.append(msgspec.json.decode(fields["data"])["reason"])
            case other:
                assert other in {"position", None}
