"""Whether PostgreSQL serves this pod, as its own calls see it: a line when that ends, and one when it is back."""

from __future__ import annotations

import structlog

log = structlog.get_logger(__name__)

QUIET_S = 1.0  # calls that fail and calls that succeed may alternate: this long without a failure, and it is back


class Availability:
    """An outage is one ERROR and one INFO, however many calls and loops it meets; what fails between is at DEBUG.

    Times are the caller's monotonic clock, in seconds.
    """

    __slots__ = ("_answered_s", "_away_since_s")

    def __init__(self) -> None:
        self._away_since_s: float | None = None
        self._answered_s: float | None = None  # the first answer after the last failure

    def failed(self, operation: str, stage: str, error: str, detail: str, since_s: float) -> None:
        """A call that began at ``since_s`` failed for want of PostgreSQL, at the stage ``connect``, ``pool`` or
        ``statement``.
        """
        self._answered_s = None
        if self._away_since_s is None:
            self._away_since_s = since_s
            log.error("database_away", operation=operation, stage=stage, error=error, detail=detail)
        else:
            log.debug("database_call_failed", operation=operation, stage=stage, error=error, detail=detail)

    def answered(self, now_s: float) -> None:
        """A call succeeded."""
        if self._away_since_s is None:
            return
        if self._answered_s is None:
            self._answered_s = now_s
        if now_s - self._answered_s >= QUIET_S:
            log.info("database_back", away_s=round(self._answered_s - self._away_since_s, 3))
            self._away_since_s = self._answered_s = None
