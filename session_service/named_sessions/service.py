"""NamedSessionService: the operations of document 004's service layer, with the cache of the active session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from session_service.aiokit.batching import Batcher
from session_service.aiokit.turns import Turns
from session_service.database.named_sessions import NamedSessionRepository
from session_service.database.postgres import REQUEST_LIMIT_S
from session_service.domain.named_session import ActiveSession, NamedSession
from session_service.errors import ActiveSessionNotFoundError, DatabaseUnavailableError, NamedSessionsNotInOrderError
from session_service.named_sessions.cache import ActiveSessionCache, CacheRead
from session_service.named_sessions.cache_trust import CacheTrust
from session_service.named_sessions.upkeep import CacheUpkeep
from session_service.telemetry.metrics import Metrics

_CONNECTIONS_PER_USER = 3  # one that works, and others that are there when it is done
_CONNECTIONS_OF_LOOKUPS = 2
_LOOKUPS_IN_A_STATEMENT = 128


class NamedSessionService:
    """Every method may raise DatabaseUnavailableError and NamedSessionsNotInOrderError. Callers have checked titles.

    A write has happened once its method returns, and every later read says so, on every pod. Cancelled, or after
    DatabaseUnavailableError, it may have happened; the cache is put right within a second (``CacheUpkeep``).
    """

    def __init__(
        self,
        repository: NamedSessionRepository,
        cache: ActiveSessionCache,
        trust: CacheTrust,
        upkeep: CacheUpkeep,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._trust = trust
        self._upkeep = upkeep
        self._clock = clock
        self._turns: Turns[int] = Turns(_CONNECTIONS_PER_USER)
        # So that looks have a connection however many lookups need PostgreSQL: without looks, all of them would.
        self._lookups = Batcher(
            repository.active,
            limit=_LOOKUPS_IN_A_STATEMENT,
            width=_CONNECTIONS_OF_LOOKUPS,
            within_s=REQUEST_LIMIT_S,
            late=DatabaseUnavailableError,
        )
        lookups = metrics.active_session_lookups_total
        self._hits, self._misses, self._bypasses = (lookups.labels(result) for result in ("hit", "miss", "bypass"))

    @property
    def believes_cache(self) -> bool:
        """Whether lookups are answered from the cache right now, as far as it has them."""
        return self._trust.holds(self._clock())

    async def create_session(self, user_id: int, title: str) -> NamedSession:
        """Make a session, active in the place of the one that was. Raises DuplicateSessionTitleError."""
        active = await self._change(user_id, lambda: self._repository.create(user_id, title))
        assert active.id is not None  # noqa: S101 - what was created has an id
        return NamedSession(active.id, user_id, title, True)

    async def get_sessions(self, user_id: int) -> list[NamedSession]:
        """All sessions of the user, the oldest first."""
        await self._check_order()
        return await self._repository.list_of_user(user_id)

    async def get_active_session_id(self, user_id: int) -> str:
        """The id of the active session: the cache's, else PostgreSQL's. Raises ActiveSessionNotFoundError."""
        await self._check_order()
        read = await self._read(user_id)
        if read is not None and read.session_id is not None:
            self._hits.inc()
            return read.session_id.decode()
        active = await self._lookups.call(user_id)
        if read is None:
            self._bypasses.inc()
        else:
            self._misses.inc()
            if active.epoch > 0:
                await self._cache.fill(user_id, active, read)
        if active.id is None:
            raise ActiveSessionNotFoundError
        return active.id

    async def set_active_session(self, user_id: int, title: str) -> None:
        """Make the session of that title the active one. Raises NamedSessionNotFoundError."""
        await self._change(user_id, lambda: self._repository.activate(user_id, title))

    async def delete_session(self, user_id: int, title: str) -> None:
        """Remove a session that is not active. Raises NamedSessionNotFoundError, ActiveSessionDeletionError."""
        await self._check_order()
        async with self._turn(user_id):
            await self._repository.delete(user_id, title)

    async def _read(self, user_id: int) -> CacheRead | None:
        """What the cache says; None where it cannot be asked, or not be believed."""
        if not self._trust.holds(self._clock()):
            return None
        read = await self._cache.read(user_id)
        # Looked at once more: the belief counts when the answer is there.
        return read if read is not None and self._trust.accepts(read.settled, self._clock()) else None

    async def _change(self, user_id: int, statement: Callable[[], Awaitable[ActiveSession]]) -> ActiveSession:
        """Make a change and write it to the cache; failing that, wait until no pod believes the cache any more."""
        await self._check_order()
        async with self._turn(user_id):
            sent_at_s = self._clock()
            active = await statement()
        if not await self._cache.put(user_id, active, age_s=self._clock() - sent_at_s):
            await asyncio.sleep(await self._upkeep.doubt())
        return active

    @asynccontextmanager
    async def _turn(self, user_id: int) -> AsyncIterator[None]:
        """Writes of one user wait for each other: few of them in PostgreSQL, so that connections are left for others.

        The turn and what is made of it have the time of one call to PostgreSQL. Raises DatabaseUnavailableError.
        """
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S), self._turns.of(user_id):
                yield
        except TimeoutError:
            raise DatabaseUnavailableError from None

    async def _check_order(self) -> None:
        state = self._trust.state or await self._upkeep.look()
        if not state.in_order:
            raise NamedSessionsNotInOrderError
