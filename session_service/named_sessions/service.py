"""NamedSessionService: the operations of document 004's service layer, with the cache of the active session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_service.database.named_sessions import NamedSessionRepository
from session_service.domain.named_session import ActiveSession, NamedSession
from session_service.errors import ActiveSessionNotFoundError, NamedSessionsNotInOrderError
from session_service.named_sessions.cache import ActiveSessionCache, CacheRead
from session_service.named_sessions.cache_trust import CacheTrust
from session_service.named_sessions.upkeep import CacheUpkeep
from session_service.telemetry.metrics import Metrics


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
        lookups = metrics.active_session_lookups_total
        self._hits, self._misses, self._bypasses = (lookups.labels(result) for result in ("hit", "miss", "bypass"))

    @property
    def believes_cache(self) -> bool:
        """Whether lookups are answered from the cache right now, as far as it has them."""
        return self._trust.holds(self._clock())

    async def create_session(self, user_id: int, title: str) -> NamedSession:
        """Make a session, active in the place of the one that was. Raises DuplicateSessionTitleError."""
        await self._check_order()
        sent_at_s = self._clock()
        active = await self._repository.create(user_id, title)
        assert active.id is not None  # noqa: S101 - what was created has an id
        await self._put(user_id, active, sent_at_s)
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
        active = await self._repository.active(user_id)
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
        await self._check_order()
        sent_at_s = self._clock()
        active = await self._repository.activate(user_id, title)
        await self._put(user_id, active, sent_at_s)

    async def delete_session(self, user_id: int, title: str) -> None:
        """Remove a session that is not active. Raises NamedSessionNotFoundError, ActiveSessionDeletionError."""
        await self._check_order()
        await self._repository.delete(user_id, title)

    async def _read(self, user_id: int) -> CacheRead | None:
        """What the cache says; None where it cannot be asked, or not be believed."""
        if not self._trust.holds(self._clock()):
            return None
        read = await self._cache.read(user_id)
        # Looked at once more: the belief counts when the answer is there.
        return read if read is not None and self._trust.accepts(read.settled, self._clock()) else None

    async def _put(self, user_id: int, active: ActiveSession, sent_at_s: float) -> None:
        """Write to the cache what is committed. Where that fails, wait until no pod believes the cache any more."""
        if not await self._cache.put(user_id, active, age_s=self._clock() - sent_at_s):
            await asyncio.sleep(await self._upkeep.doubt())

    async def _check_order(self) -> None:
        state = self._trust.state or await self._upkeep.look()
        if not state.in_order:
            raise NamedSessionsNotInOrderError
