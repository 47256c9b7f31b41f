"""What keeps the cache of active sessions right: looks by every pod, repairs by one (docs/named-sessions.md).

A write may be committed and never reach Redis: its pod died, Redis was away, or what Redis had was rolled back or
lost. So each change is written there once more, from PostgreSQL, soon after its commit; and the contents carry a mark
that says up to which transaction that was done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import structlog

from session_service.aiokit.batching import Batcher
from session_service.database.named_sessions import CacheState, NamedSessionRepository
from session_service.database.postgres import REQUEST_LIMIT_S
from session_service.domain.snapshot import Snapshot
from session_service.errors import DatabaseUnavailableError
from session_service.named_sessions.cache import FILL_LIMIT_S, ActiveSessionCache
from session_service.named_sessions.cache_trust import CacheTrust, mark_of, read_mark
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.2
REPAIR_EVERY_S = 0.25
# A change is written again when whatever was read before it cannot be filled in any more.
REPAIR_AFTER_S = FILL_LIMIT_S + 0.1


class CacheUpkeep:
    """``clock``: monotonic seconds. DatabaseUnavailableError may come from each method."""

    def __init__(
        self,
        repository: NamedSessionRepository,
        cache: ActiveSessionCache,
        trust: CacheTrust,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._trust = trust
        self._clock = clock
        self._seen: deque[tuple[float, CacheState]] = deque()  # the last looks for a repair, with their time
        self._decided: Snapshot | None = None
        self._doubts: Batcher[None, int] = Batcher(
            self._doubt_together, limit=10_000, width=1, within_s=REQUEST_LIMIT_S, late=DatabaseUnavailableError
        )
        metrics.active_session_cache_in_doubt.set_function(lambda: float(not trust.holds(clock())))

    async def look(self) -> CacheState:
        """Renew this pod's belief in the cache, or lose it."""
        asked_at_s = self._clock()
        state = await self._repository.look()
        before = self._trust.state
        self._trust.looked(state, asked_at_s, self._clock())
        if not state.in_order and (before is None or before.in_order):
            log.warning("named_sessions_not_served", remedy="run `session-service order-named-sessions`")
        if self._cache.avoided and not state.in_doubt:
            await self._cache.settled()  # another pod has found that Redis is well: so may this one
        return state

    async def doubt(self) -> float:
        """Something that was committed may not be in Redis: no pod is to believe the cache until a repair.

        Calls that come together make one statement. Returns how long to wait until none does, seconds.
        """
        return self._trust.doubted(await self._doubts.call(None), self._clock())

    async def repair(self) -> None:
        """Write again what was changed lately; in doubt, all that was changed since the contents were marked."""
        state = await self._repository.look()
        decided = self._decided_by(state)
        if decided is None:
            return
        found = await self._cache.settled()
        if found is None:
            await self._doubt_once(state)
            return
        (mark,) = found
        since = settled = state.settled
        if settled.age > state.snapshot.age:  # a history that was lost had settled that
            since = settled = decided
        if mark != mark_of(state.origin, state.settled) or settled is not state.settled:
            marked = read_mark(mark, state.origin)
            if mark is None:
                log.info("active_session_cache_empty")
            else:
                found_mark = mark.decode(errors="replace")
                log.warning("active_session_cache_rolled_back", settled=str(state.settled), marked=found_mark)
            state = await self._doubt_once(state)
            if marked is not None and marked.age <= settled.age:
                since = Snapshot.before(marked.xmin)
            elif await self._cache.purge():  # lost, of another history, or of a future that PostgreSQL has not
                since = decided
            else:
                return
        await self._write_again(state, since, max(decided, settled, key=lambda snapshot: snapshot.age))

    async def _write_again(self, state: CacheState, since: Snapshot, settled: Snapshot) -> None:
        users = 0
        async for changes in self._repository.changed(since, None if state.in_doubt else settled):
            users += len(changes)
            if not await self._cache.put_many(changes):
                await self._doubt_once(state)
                return
        if not users and not state.in_doubt:
            return  # the mark is as it should be
        # The mark comes last: one that is older than what PostgreSQL says makes the next repair do it again.
        await self._repository.settle(settled, state.doubted)
        await self._cache.set_settled(mark_of(state.origin, settled))
        if state.in_doubt:
            log.info("active_session_cache_repaired", users=users)

    def _decided_by(self, state: CacheState) -> Snapshot | None:
        """What had come to its end ``REPAIR_AFTER_S`` ago. None: not known yet, of this history."""
        now_s = self._clock()
        if self._seen:
            last = self._seen[-1][1]
            if last.origin != state.origin or last.snapshot.age > state.snapshot.age:
                self._seen.clear()
                self._decided = None
        self._seen.append((now_s, state))
        while self._seen[0][0] <= now_s - REPAIR_AFTER_S:
            self._decided = self._seen.popleft()[1].snapshot
        return self._decided

    async def _doubt_once(self, state: CacheState) -> CacheState:
        """The state, which is one of doubt from now on."""
        if not state.in_doubt:
            log.info("active_session_cache_in_doubt")
            await self.doubt()
            state = await self._repository.look()
        return state

    async def _doubt_together(self, calls: Sequence[None]) -> list[int]:
        return [await self._repository.doubt()] * len(calls)
