"""Changes of sandbox sessions as event streams: one follower per pod reads them, each stream writes what it has read.

Nothing is looked at while nobody listens. Snapshots tell what has changed between two looks, whatever made it: the
API, a claim over SQL, a plain UPDATE.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import structlog

from session_service.database.postgres import REQUEST_LIMIT_S
from session_service.database.sandbox_changes import SandboxChangeRepository
from session_service.domain.change_position import ChangePosition
from session_service.domain.sandbox_change import SandboxChange
from session_service.errors import DatabaseUnavailableError, UnavailableError
from session_service.sandboxes.recent_changes import RecentChanges
from session_service.wire.sandbox_changes import change_event, position_event, reset_event

log = structlog.get_logger(__name__)

MAX_STREAMS = 500
LOOK_EVERY_S = 0.25
GATHER_S = 0.05  # between two looks, also where each commit notifies
MAX_AT_ONCE = 10_000  # changes between two looks, or since an event that a stream is resumed at; of more: a reset
MAX_MISSED_BYTES = 64 * 1024 * 1024  # of all streams of a pod together: what they have missed, and not read yet
_RESUMES_AT_ONCE = 2  # a pod that died leaves many; they share the pool with everybody else
_PIECE_BYTES = 32 * 1024


class ChangeStream:
    """What one client has been told: pieces of an event stream, made by ``ChangeFollower.stream``."""

    def __init__(self, follower: ChangeFollower) -> None:
        self._follower = follower
        self._opening: list[bytes] = []
        self._next = 0
        self.missed_bytes = 0  # what is still to be read of what happened before it began

    async def begin(self, last_event_id: str | None) -> None:
        """Begin at the present, or after that event.

        Raises DatabaseUnavailableError, and UnavailableError while other streams have missed too much.

        Every change that is committed after the call is told. An id that cannot be gone on from is answered by a
        ``reset`` as the first event: never by a gap.
        """
        self._opening, self._next = await self._follower.join(last_event_id)
        self.missed_bytes = _size_bytes(self._opening)

    async def read(self, timeout_s: float) -> bytes | None:
        """The next piece, whole events; empty where there was none for ``timeout_s``.

        None: the pod drains, or the next piece is gone, since this has read too slowly.
        """
        if self._opening:
            piece = self._opening.pop(0)
            self.missed_bytes -= len(piece)
            return piece
        following = await self._follower.piece(self._next, timeout_s)
        if following:
            self._next += 1
        return following

    def position(self) -> bytes:
        """An event with an id to go on from; empty where there is more to read, or nobody knows."""
        return self._follower.position_at(self._next)


class ChangeFollower:
    """The changes of all rows, and the streams of this pod that tell of them. Belongs to one event loop."""

    def __init__(
        self,
        repository: SandboxChangeRepository,
        *,
        max_streams: int = MAX_STREAMS,
        max_at_once: int = MAX_AT_ONCE,
        max_missed_bytes: int = MAX_MISSED_BYTES,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._repository = repository
        self._max_streams = max_streams
        self._max_at_once = max_at_once
        self._max_missed_bytes = max_missed_bytes
        self._look_every_s = look_every_s
        self._streams: set[ChangeStream] = set()
        self._recent = RecentChanges()
        self._position: ChangePosition | None = None  # None: nobody listens, or nobody knows yet
        self._looking = asyncio.Lock()
        self._resuming = asyncio.Semaphore(_RESUMES_AT_ONCE)
        self._listened = asyncio.Event()
        self._poked = asyncio.Event()
        self._grown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed = False

    @contextmanager
    def stream(self) -> Iterator[ChangeStream]:
        """A place for one stream. Raises UnavailableError where ``max_streams`` are open, or the pod drains."""
        if self._closed or len(self._streams) >= self._max_streams:
            raise UnavailableError("This pod takes no more event streams", retry_after_s=5)
        stream = ChangeStream(self)
        self._streams.add(stream)
        self._listened.set()
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._listened.clear()
                self._position = None  # whoever comes next begins at the present

    def poke(self) -> None:
        """Something has changed: look now, not only when the next look is due."""
        self._poked.set()

    def close(self) -> None:
        """The pod drains: every stream ends."""
        self._closed = True
        self._tell_streams()

    async def round(self) -> None:
        """Wait until a look is due, and make it. Raises DatabaseUnavailableError."""
        await self._listened.wait()
        try:
            async with asyncio.timeout(self._look_every_s):
                await self._poked.wait()
        except TimeoutError:
            pass
        self._poked.clear()
        if self._streams:
            async with self._looking:
                await self._advance()

    async def join(self, last_event_id: str | None) -> tuple[list[bytes], int]:
        """As ``ChangeStream.begin``: the first pieces, and the number of the one that follows them."""
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S):  # turns included
                return await self._join(last_event_id)
        except TimeoutError:
            raise DatabaseUnavailableError from None

    async def _join(self, last_event_id: str | None) -> tuple[list[bytes], int]:
        since = None if last_event_id is None else ChangePosition.parse(last_event_id)
        here = await self._reach(0 if since is None else since.snapshot.xmax)
        following = self._recent.head  # with `here`: nothing may come between the two
        if last_event_id is None:
            return [position_event(here.event_id)], following
        lost = "unknown_id" if since is None else here.why_not_from(since)
        if since is None or lost is not None:
            return [reset_event(lost or "", here.event_id)], following
        async with self._resuming:
            missed = await self._repository.between(since.snapshot, here.snapshot, self._max_at_once)
        if missed is None:
            return [reset_event("too_many", here.event_id)], following
        pieces = [*_pieces(since, here, missed), position_event(here.event_id)]
        waiting_bytes = sum(stream.missed_bytes for stream in self._streams)
        if waiting_bytes and waiting_bytes + _size_bytes(pieces) > self._max_missed_bytes:
            raise UnavailableError("This pod is telling others what they have missed", retry_after_s=5)
        return pieces, following

    async def piece(self, number: int, timeout_s: float) -> bytes | None:
        """As ``ChangeStream.read``."""
        if number == self._recent.head and not self._closed:
            await asyncio.wait([self._grown], timeout=timeout_s)
        if self._closed:
            return None
        return b"" if number == self._recent.head else self._recent.at(number)

    def position_at(self, number: int) -> bytes:
        """As ``ChangeStream.position``."""
        if self._position is None or number != self._recent.head:
            return b""
        return position_event(self._position.event_id)

    async def _reach(self, xmax: int) -> ChangePosition:
        """Where changes have come to, looked up anew where that is not known, or before ``xmax``."""
        if (here := self._position) is not None and here.snapshot.xmax >= xmax:
            return here
        async with self._looking:
            # Of those who come at once the first looks for all.
            if (here := self._position) is not None and here.snapshot.xmax >= xmax:
                return here
            return await self._advance()

    async def _advance(self) -> ChangePosition:
        """Look, tell the streams what is new, and return where changes have come to. To be called in ``_looking``."""
        found = await self._repository.look()
        before = self._position
        lost = None if before is None else found.why_not_from(before)
        if before is None:
            self._position = found
        elif lost is not None:
            self._reset(lost, found)
        elif found.snapshot == before.snapshot:
            self._position = msgspec.structs.replace(before, at_s=found.at_s)
        else:
            changes = await self._repository.between(before.snapshot, found.snapshot, self._max_at_once)
            if changes is None:
                self._reset("too_many", found)
            else:
                self._tell(_pieces(before, found, changes), found)
        if not self._streams:  # the last one has left meanwhile
            self._position = None
        return found

    def _reset(self, reason: str, found: ChangePosition) -> None:
        log.warning("sandbox_changes_not_told", reason=reason, streams=len(self._streams))
        self._tell([reset_event(reason, found.event_id)], found)

    def _tell(self, pieces: Sequence[bytes], position: ChangePosition) -> None:
        for piece in pieces:
            self._recent.append(piece)
        self._position = position
        if pieces:
            self._tell_streams()

    def _tell_streams(self) -> None:
        grown, self._grown = self._grown, asyncio.get_running_loop().create_future()
        if not grown.done():
            grown.set_result(None)


def _pieces(before: ChangePosition, after: ChangePosition, changes: Sequence[SandboxChange]) -> list[bytes]:
    """Events of what ``after`` sees and ``before`` does not, in the order of their transactions.

    The id of an event is where one goes on who has read it: with the last change of a transaction that is behind it.
    """
    pieces: list[bytes] = []
    events: list[bytes] = []
    size_bytes = 0
    event_id = before.event_id
    last = len(changes) - 1
    for index, change in enumerate(changes):
        if index == last:
            event_id = after.event_id
        elif changes[index + 1].changed_in != change.changed_in:
            event_id = before.reached(after.snapshot, change.changed_in).event_id
        event = change_event(change, event_id)
        events.append(event)
        size_bytes += len(event)
        if size_bytes >= _PIECE_BYTES or index == last:
            pieces.append(b"".join(events))
            events.clear()
            size_bytes = 0
    return pieces


def _size_bytes(pieces: Sequence[bytes]) -> int:
    return sum(map(len, pieces))
