"""Whether this pod may believe the cache of active sessions right now. Pure: ``now_s`` are monotonic seconds."""

from __future__ import annotations

import re

import msgspec

from session_service.database.named_sessions import CacheState
from session_service.domain.snapshot import Snapshot

LEASE_S = 0.6  # how long a look at PostgreSQL counts; whoever doubts the cache waits for so long


_mark = re.compile(rb"(?P<origin>.*):(?P<xmin>\d{1,19}):(?P<xmax>\d{1,19}):(?P<in_progress>\d{1,9})", re.DOTALL)


class Mark(msgspec.Struct, frozen=True):
    """What the contents say of themselves: every change that a snapshot saw is in them. Of it, what fits a mark."""

    xmin: int
    age: tuple[int, int]  # as Snapshot.age


def mark_of(origin: str, settled: Snapshot) -> bytes:
    """What the contents are marked with once every change that ``settled`` sees is in them."""
    return f"{origin}:{settled.xmin}:{settled.xmax}:{len(settled.in_progress)}".encode()


def read_mark(mark: bytes | None, origin: str) -> Mark | None:
    """The mark of contents; None: they are not of this origin."""
    if mark is None:
        return None
    found = _mark.fullmatch(mark)
    if found is None or found["origin"] != origin.encode():
        return None
    xmin, xmax, in_progress = (int(found[name]) for name in ("xmin", "xmax", "in_progress"))
    return Mark(xmin, (xmax, -in_progress)) if xmin <= xmax else None


class CacheTrust:
    """Belief in leases: a look that found no doubt counts for ``LEASE_S``, so that a doubt is known to all by then.

    A write that did not reach Redis is answered only when no pod can still believe what it should have replaced.
    """

    def __init__(self) -> None:
        self.state: CacheState | None = None  # of the last look
        self._until_s = float("-inf")
        self._accepted: bytes | None = None  # a mark that was found good against this state
        self._doubt: tuple[int, float] | None = (
            None  # a doubt, by what was cleared before it, and since when it is known
        )

    def looked(self, state: CacheState, asked_at_s: float, now_s: float) -> None:
        """A look that was asked for at ``asked_at_s`` has said ``state``."""
        self.state = state
        self._accepted = None
        if state.in_doubt:
            self._until_s = float("-inf")
            self._since(state.cleared, now_s)
        else:
            self._until_s = asked_at_s + LEASE_S

    def holds(self, now_s: float) -> bool:
        return now_s < self._until_s

    def accepts(self, mark: bytes | None, now_s: float) -> bool:
        """Whether contents with this mark can be believed: they have all that is known to be settled."""
        if not self.holds(now_s) or mark is None or self.state is None:
            return False
        if mark != self._accepted:
            read = read_mark(mark, self.state.origin)
            if read is None or read.age < self.state.settled.age:
                return False
            self._accepted = mark
        return True

    def doubted(self, cleared: int, now_s: float) -> float:
        """A doubt of this pod is written, part of the one after ``cleared``. Returns how long to wait, seconds.

        After that no pod believes the cache any more, until the doubt is cleared.
        """
        self._until_s = float("-inf")
        return max(0.0, self._since(cleared, now_s) + LEASE_S - now_s)

    def _since(self, cleared: int, now_s: float) -> float:
        if self._doubt is None or self._doubt[0] != cleared:
            self._doubt = cleared, now_s
        return self._doubt[1]
