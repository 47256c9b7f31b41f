"""The inbox of sandbox sessions: what may be claimed, and what becomes of it (docs/sandbox-sessions.md). Pure.

The rules stand here to be read and tested; ``public.session_claim``, ``session_complete`` and ``session_fail``
(sql/schema.sql) are the same rules over rows, and a test compares the two. All instants are seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

DEFAULT_MAX_ATTEMPTS = 5
LONGEST_RETRY_DELAY_S = 300.0


class InboxStatus(StrEnum):
    """``session.inbox_status``; it may also be null, for a session that is no work at all."""

    PENDING = "pending"  # may be claimed, unless a back-off keeps it
    PROCESSING = "processing"  # claimed; or set by plain SQL, and then without a claim, and left alone
    COMPLETED = "completed"
    FAILED = "failed"  # given up by its worker, or claimed max_attempts times and never completed


class Work(msgspec.Struct, frozen=True):
    """What claiming looks at in a row. ``claimed_until_s`` is None where it has no claim."""

    id: str
    status: InboxStatus | None
    created_at_s: float
    claimed_until_s: float | None = None
    not_before_s: float | None = None
    attempts: int = 0
    max_attempts: int = DEFAULT_MAX_ATTEMPTS


def retry_delay_s(attempts: int) -> float:
    """How long work waits that failed in its ``attempts``-th attempt: 1, 2, 4, … s, five minutes at most."""
    return min(LONGEST_RETRY_DELAY_S, 2.0 ** min(max(attempts, 1) - 1, 30))


def is_exhausted(work: Work, now_s: float) -> bool:
    """A claim that has run out on work that may not be claimed once more: it is to become failed."""
    return work.claimed_until_s is not None and work.claimed_until_s <= now_s and work.attempts >= work.max_attempts


def next_claim(rows: Iterable[Work], now_s: float) -> Work | None:
    """Which row is claimed next. First claims that have run out and retries whose back-off is over, by the instant at
    which they became claimable again; then what was never claimed, the oldest first.
    """
    claimable = [work for work in rows if _is_claimable(work, now_s) and not is_exhausted(work, now_s)]
    again = [work for work in claimable if _since_s(work) is not None]
    if again:
        return min(again, key=lambda work: (_since_s(work) or 0.0, work.created_at_s, work.id))
    return min(claimable, key=lambda work: (work.created_at_s, work.id), default=None)


def after_failure(attempts: int, max_attempts: int, *, retry: bool) -> InboxStatus:
    """What work becomes that its worker failed in its ``attempts``-th attempt."""
    return InboxStatus.PENDING if retry and attempts < max_attempts else InboxStatus.FAILED


def _is_claimable(work: Work, now_s: float) -> bool:
    since_s = _since_s(work)
    if work.status is InboxStatus.PROCESSING and work.claimed_until_s is None:
        return False
    if work.status not in {InboxStatus.PENDING, InboxStatus.PROCESSING}:
        return False
    return since_s is None or since_s <= now_s


def _since_s(work: Work) -> float | None:
    """From when on it may be claimed; None: at once, and it never was before."""
    return work.claimed_until_s if work.claimed_until_s is not None else work.not_before_s
