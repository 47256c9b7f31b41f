"""PostgreSQL's snapshots: what had ended by then (its manual, "Transaction ID and Snapshot Information")."""

from __future__ import annotations

import msgspec


class Snapshot(msgspec.Struct, frozen=True):
    """Transactions before ``xmax`` had ended, but those ``in_progress``; all of these are at ``xmin`` or above.

    Each snapshot sees what an earlier one of the same history saw, however long a transaction stays open.
    """

    xmin: int
    xmax: int
    in_progress: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """The text of a ``pg_snapshot``. Raises ValueError."""
        xmin, xmax, in_progress = text.split(":")
        return cls(int(xmin), int(xmax), tuple(int(xid) for xid in in_progress.split(",") if xid))

    @classmethod
    def before(cls, xid: int) -> Snapshot:
        """What sees every transaction before ``xid``, and no other."""
        return cls(xid, xid)

    def sees(self, xid: int) -> bool:
        """Whether that transaction had ended, by commit or by rollback."""
        return xid < self.xmax and xid not in self.in_progress

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.in_progress))}"

    @property
    def age(self) -> tuple[int, int]:
        """Snapshots of one history compare by it: the later one's is greater, and that of an equal one is equal."""
        return self.xmax, -len(self.in_progress)
