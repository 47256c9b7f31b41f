"""SandboxSessionService: sandbox sessions for services, and their inbox, with waits for work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

from session_service.aiokit.turns import Turns
from session_service.database.postgres import REQUEST_LIMIT_S
from session_service.database.sandbox_sessions import SandboxSessionRepository
from session_service.domain.inbox import InboxStatus
from session_service.domain.sandbox_session import FieldChanges, Position, SandboxPage, SandboxSession
from session_service.errors import DatabaseUnavailableError, SessionServiceError
from session_service.sandboxes.inbox_listener import InboxListener
from session_service.telemetry.metrics import Metrics

MAX_CHILDREN = 1000
LOOK_EVERY_S = 2.0  # for what nobody is told of: retries whose back-off is over, claims that ran out
_CONNECTIONS = 4  # of the pool's; the others are for live sessions


class SandboxSessionService:
    """Every method may raise DatabaseUnavailableError, and where a value is refused InvalidRequestError or
    PayloadTooLargeError. Cancelled, or after DatabaseUnavailableError, a write may have happened; a claim that nobody
    waits for any more is put back.
    """

    def __init__(
        self,
        repository: SandboxSessionRepository,
        inbox: InboxListener,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._repository = repository
        self._inbox = inbox
        self._metrics = metrics
        self._clock = clock
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._writes: Turns[str] = Turns()  # by session
        self._looking = asyncio.Lock()
        self._look_at_s = clock() + LOOK_EVERY_S
        self._releases: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def is_draining(self) -> bool:
        """Whether waits have ended here: who wants to wait goes elsewhere."""
        return self._draining

    async def create(
        self, messages: str | None, status: InboxStatus | None, sbx_config: str | None, parent: str | None
    ) -> SandboxSession:
        """Make a session; ``messages`` and ``sbx_config`` are JSON."""
        async with self._turn():
            made = await self._repository.create(messages, status, sbx_config, parent)
        self._count("create")
        return made

    async def get(self, session_id: str) -> SandboxSession:
        """Raises SessionNotFoundError."""
        async with self._turn():
            return await self._repository.get(session_id)

    async def page(
        self, status: InboxStatus | None, parent: str | None, after: Position | None, limit: int
    ) -> SandboxPage:
        """Up to ``limit`` sessions, the oldest first. What is there from the first page to the last comes once."""
        async with self._turn():
            return await self._repository.page(status, parent, after, limit)

    async def children(self, session_id: str, depth: int) -> SandboxPage:
        """What stands below, level by level, MAX_CHILDREN at most. Raises SessionNotFoundError."""
        async with self._turn():
            return await self._repository.children(session_id, depth, MAX_CHILDREN)

    async def change(self, session_id: str, change: FieldChanges) -> SandboxSession:
        """Set fields. Raises SessionNotFoundError."""
        async with self._turn(session_id):
            if change == FieldChanges():
                return await self._repository.get(session_id)
            changed = await self._repository.change(session_id, change)
        self._count("change")
        return changed

    async def delete(self, session_id: str) -> None:
        """Delete a session; its children lose their parent. Raises SessionNotFoundError."""
        async with self._turn(session_id):
            await self._repository.delete(session_id)
        self._count("delete")

    async def append(self, session_id: str, message: str) -> SandboxSession:
        """Add a message; of two at once both stay. Raises SessionNotFoundError."""
        async with self._turn(session_id):
            appended = await self._repository.append(session_id, message)
        self._count("append")
        return appended

    async def claim(self, worker: str, visibility_s: float, wait_s: float) -> SandboxSession | None:
        """The next piece of work, claimed for ``visibility_s``; None where none came within ``wait_s``.

        Raises UnavailableError where too many wait. Cancelled, it leaves no work claimed. ``end_waits`` ends a wait.
        """
        if wait_s <= 0 or self._draining:
            return await self._claim(worker, visibility_s)
        until_s = self._clock() + wait_s
        with self._inbox.waiter() as waiter:
            claimed = await self._claim(worker, visibility_s)
            while claimed is None and not self._draining and (left_s := until_s - self._clock()) > 0:
                if await waiter.wait(min(left_s, max(0.0, self._look_at_s - self._clock()))):
                    claimed = await self._claim(worker, visibility_s)
                elif not self._draining:
                    claimed = await self._look(worker, visibility_s)
        return claimed

    async def extend(self, session_id: str, claim: str, visibility_s: float) -> SandboxSession:
        """The claim lasts for ``visibility_s`` from now on. Raises ClaimLostError."""
        async with self._turn(session_id):
            extended = await self._repository.extend(session_id, claim, visibility_s)
        self._count("extend")
        return extended

    async def complete(self, session_id: str, claim: str, messages: str | None) -> SandboxSession:
        """The work is done; ``messages`` replace the session's, None leaves them. Raises ClaimLostError."""
        async with self._turn(session_id):
            completed = await self._repository.complete(session_id, claim, messages)
        self._count("complete")
        return completed

    async def fail(self, session_id: str, claim: str, error: str | None, *, retry: bool) -> SandboxSession:
        """The work was not done: pending again after a back-off, or failed. Raises ClaimLostError."""
        async with self._turn(session_id):
            failed = await self._repository.fail(session_id, claim, error, retry=retry)
        self._count("fail")
        return failed

    def end_waits(self) -> None:
        """The pod drains: who waits for work is answered at once, and nobody waits from now on."""
        self._draining = True
        self._inbox.release_all()

    async def close(self) -> None:
        """Wait until work that nobody waited for is put back; as long as PostgreSQL takes."""
        while self._releases:
            await asyncio.wait(self._releases)

    async def _look(self, worker: str, visibility_s: float) -> SandboxSession | None:
        """Claim what nobody was told of. One waiter looks for all of them, and while it finds something the next."""
        async with self._looking:
            if self._clock() < self._look_at_s:
                return None
            claimed = None
            try:
                claimed = await self._claim(worker, visibility_s)
            finally:
                if claimed is None:
                    self._look_at_s = self._clock() + LOOK_EVERY_S
            return claimed

    async def _claim(self, worker: str, visibility_s: float) -> SandboxSession | None:
        async with self._turn():
            claiming = asyncio.ensure_future(self._repository.claim(worker, visibility_s))
            try:
                claimed = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                # The statement may have happened: nobody knows before it is answered.
                releasing = asyncio.create_task(self._release(claiming), name="release_sandbox_session")
                self._releases.add(releasing)
                releasing.add_done_callback(self._releases.discard)
                raise
        if claimed is not None:
            self._count("claim")
        return claimed

    async def _release(self, claiming: asyncio.Future[SandboxSession | None]) -> None:
        try:
            claimed = await claiming
            if claimed is not None and claimed.claim is not None:
                await self._repository.release(claimed.id, claimed.claim)
                self._count("release")
        except SessionServiceError:
            pass  # then it is pending again when its visibility timeout is over

    def _count(self, operation: str) -> None:
        self._metrics.operations_total.labels(f"sandbox_{operation}").inc()

    @asynccontextmanager
    async def _turn(self, written: str | None = None) -> AsyncIterator[None]:
        """One of few connections; with what is made of it, it has the time of one call to PostgreSQL.

        Of writes to one session, ``written``, one at a time has one: they would only wait for each other, and where
        somebody else holds the row, with all connections. Raises DatabaseUnavailableError.
        """
        alone = nullcontext() if written is None else self._writes.of(written)
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S), alone, self._connections:
                yield
        except TimeoutError:
            raise DatabaseUnavailableError from None
