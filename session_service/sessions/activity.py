"""Activity: which sessions were used, written in batches. No database write per call or per frame."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from session_service.database.sessions import SessionRepository

_WRITE_EVERY_PART = 0.1  # of the session's timeout: expiry lags behind activity by no more than this
_WRITE_EVERY_MAX_S = 30.0
_BATCH = 1000


class ActivityLog:
    """Remembers when each session was used, and writes what PostgreSQL does not know yet, and how far it has.

    An entry says when the use was, not when it was written: a session that was used before its expiry, and from then
    on never paused for as long as its timeout, is extended even when PostgreSQL was away meanwhile: no pod lets
    sessions expire that ran out after the last flush of any live one.

    ``pod_id`` is asked at every flush. Uses are written also where this pod has no row, since it was taken for dead.
    """

    def __init__(
        self,
        repository: SessionRepository,
        *,
        timeout_s: float,
        clock: Callable[[], float],
        pod_id: Callable[[], str],
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._pod_id = pod_id
        self._timeout_s = timeout_s
        self._write_every_s = min(timeout_s * _WRITE_EVERY_PART, _WRITE_EVERY_MAX_S)
        self._unwritten: dict[str, tuple[float, float]] = {}  # the first and the last use
        self._written: dict[str, float] = {}
        self._forget_written_at = clock() + self._write_every_s
        # PostgreSQL's instant of its last answer, and when that came: what was used before is here, or written.
        self._answer: tuple[datetime, float] | None = None

    def touch(self, session_id: str) -> None:
        """The session was used now. Costs two dictionary look-ups; never blocks."""
        now = self._clock()
        unwritten = self._unwritten.get(session_id)
        if unwritten is not None:
            first, last = unwritten
            if now - last < self._timeout_s:  # else it ran out in the pause: a use after it changes nothing
                self._unwritten[session_id] = (first, now)
            return
        written = self._written.get(session_id)
        if written is None or now - written >= self._write_every_s:
            self._unwritten[session_id] = (now, now)

    def forget(self, session_id: str) -> None:
        """The session is over."""
        self._unwritten.pop(session_id, None)
        self._written.pop(session_id, None)

    async def flush(self) -> None:
        """Write what is due, and up to when there is nothing else: one statement, also where nothing was used.

        Raises DatabaseUnavailableError; what could not be written is kept for the next time, and until then nothing
        expires on any pod that ran out after the last time.
        """
        due = list(self._unwritten.items())
        answer = self._answer
        held: list[str] = []
        while len(due) > _BATCH:
            batch, due = due[:_BATCH], due[_BATCH:]
            await self._write(batch, answer, held, is_all=False)
        answered_at = await self._write(due, answer, held, is_all=True)
        now = self._clock()
        self._answer = answered_at, now
        if now >= self._forget_written_at:
            self._forget_written_at = now + self._write_every_s
            horizon = now - self._write_every_s
            for session_id in [key for key, at in self._written.items() if at < horizon]:
                del self._written[session_id]  # the next touch writes anyway

    async def _write(
        self,
        batch: list[tuple[str, tuple[float, float]]],
        answer: tuple[datetime, float] | None,
        held: list[str],
        *,
        is_all: bool,
    ) -> datetime:
        """``held`` grows by the sessions that somebody holds: their uses wait, and they alone do not expire."""
        now = self._clock()
        answered_at, passed_over = await self._repository.flush_activity(
            {session_id: (now - first, now - last) for session_id, (first, last) in batch},
            self._pod_id(),
            answered_at=answer[0] if answer else None,
            elapsed_s=now - answer[1] if answer else 0.0,
            is_all=is_all,
            held=held,
        )
        held += passed_over
        waiting = set(passed_over)
        for session_id, use in batch:
            if session_id in waiting:
                continue
            self._written[session_id] = use[1]
            if self._unwritten.get(session_id) == use:
                del self._unwritten[session_id]
        return answered_at
