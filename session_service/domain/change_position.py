"""Up to where a follower of changes has been told: positions as event ids, and when one can be resumed. Pure.

A change belongs to the transaction that made it, so a position is a snapshot: the transactions whose changes were
told. Numbers in order would not do, since transactions end in another order than they begin in: one that stays open
while later ones end would be passed over, or hold up all others.
"""

from __future__ import annotations

import re

import msgspec

from session_service.domain.snapshot import Snapshot

# Removed rows are known for an hour after their transaction began; half of it is left to long transactions.
RESUME_WINDOW_S = 1800
MAX_LISTED = 100  # transactions in progress that an id lists; an id travels in a header
_MAX_CLOCK_DIFFERENCE_S = 60  # between a server that was promoted and the one before

_ID = re.compile(r"([0-9]{1,12}):([0-9]{1,19}:[0-9]{1,19}:[0-9,]{0,2048}):([0-9A-Za-z-]{1,100})")


class ChangePosition(msgspec.Struct, frozen=True):
    """``origin``: the history of PostgreSQL that the snapshot belongs to; ``at_s``: PostgreSQL's clock, Unix time."""

    origin: str
    at_s: int
    snapshot: Snapshot

    @classmethod
    def parse(cls, event_id: str) -> ChangePosition | None:
        """What ``event_id`` made; None for anything else."""
        found = _ID.fullmatch(event_id)
        if found is None:
            return None
        snapshot = Snapshot.parse(found[2])
        ascending = sorted(set(snapshot.in_progress))
        if str(snapshot) != found[2] or list(snapshot.in_progress) != ascending:
            return None
        if not snapshot.xmin <= snapshot.xmax < 2**63:
            return None
        if ascending and not (snapshot.xmin <= ascending[0] and ascending[-1] < snapshot.xmax):
            return None
        return cls(found[3], int(found[1]), snapshot)

    @property
    def event_id(self) -> bytes:
        """Where more are in progress than an id lists: one from before them. Changes come again, none is missed."""
        snapshot = self.snapshot
        if len(snapshot.in_progress) > MAX_LISTED:
            snapshot = Snapshot.before(snapshot.xmin)
        return f"{self.at_s}:{snapshot}:{self.origin}".encode()

    def reached(self, after: Snapshot, xid: int) -> ChangePosition:
        """On the way from here to ``after``, once everything in transactions up to ``xid`` was told."""
        before = self.snapshot
        xmax = max(before.xmax, xid + 1)
        in_progress = tuple(
            one
            for one in sorted({*before.in_progress, *after.in_progress})
            if one < xmax and (one > xid or not after.sees(one))
        )
        return ChangePosition(self.origin, self.at_s, Snapshot(min(in_progress, default=xmax), xmax, in_progress))

    def why_not_from(self, since: ChangePosition) -> str | None:
        """Why a follower that was told up to ``since`` cannot go on to here; None: it can."""
        if since.origin != self.origin or since.snapshot.xmax > self.snapshot.xmax:
            return "other_history"
        if not -_MAX_CLOCK_DIFFERENCE_S <= self.at_s - since.at_s <= RESUME_WINDOW_S:
            return "too_old"
        return None
