"""Who is woken when work may have come: the oldest waiter first, one for each piece, never all at once. Pure."""

from __future__ import annotations

import re

from session_service.errors import UnavailableError
from session_service.wire.rate_limit import TokenBucket

# What wakes at once, and from then on: each woken waiter asks PostgreSQL, over a pool of some ten connections.
WAKE_BURST = 50
WAKES_PER_S = 200.0

_MORE = re.compile(r"\+([0-9]{1,9})")


def pieces_of(payload: str) -> int:
    """How many pieces of work a notification of ``sandbox_inbox`` tells of: ``id,id,…``, or ``id,…,+N`` for N more.

    Anybody may notify: what is no such list counts as one piece, since waking one in vain does no harm.
    """
    *ids, last = payload.split(",")
    more = _MORE.fullmatch(last)
    return len(ids) + (1 if more is None else int(more[1])) or 1


class Place:
    """A waiter's place in the line. Compared by identity."""

    __slots__ = ("woken",)

    def __init__(self) -> None:
        self.woken = False  # work may have come since it last looked


class WaitingLine:
    """The waiters of one pod, at most ``limit``. Times are the caller's monotonic clock, in seconds.

    A waiter asks for work first and waits then, so it has its place before it asks: what comes between is noted on
    it. Who waits is woken before who is asking at the moment. A waiter that leaves with a wake-up that it had no use
    for passes it on: what it was woken for may be there still.
    """

    def __init__(self, limit: int, now_s: float) -> None:
        self._limit = limit
        self._bucket = TokenBucket(WAKES_PER_S, WAKE_BURST, now_s)
        self._places: set[Place] = set()
        # Of those, by how long they are there, the ones that were not woken:
        self._waiting: dict[Place, None] = {}
        self._asking: dict[Place, None] = {}
        self._owed = 0  # wake-ups that are due, or will be when the bucket has filled

    def __len__(self) -> int:
        return len(self._places)

    @property
    def owes(self) -> bool:
        """Whether ``wake`` has more to do, now or later."""
        return self._owed > 0

    def enter(self) -> Place:
        """A place at the end. Raises UnavailableError where all are taken."""
        if len(self._places) >= self._limit:
            raise UnavailableError("Too many requests wait for work on this pod", retry_after_s=5)
        place = Place()
        self._places.add(place)
        self._asking[place] = None
        return place

    def leave(self, place: Place) -> None:
        self._places.discard(place)
        self._waiting.pop(place, None)
        self._asking.pop(place, None)
        if place.woken:
            self.work_came(1)
        else:
            self._owed = min(self._owed, len(self._waiting) + len(self._asking))

    def wait(self, place: Place) -> None:
        """It found nothing and waits, behind those who wait already."""
        if not place.woken:
            self._asking.pop(place, None)
            self._waiting[place] = None

    def ask(self, place: Place) -> bool:
        """It waits no longer, and asks for work again. Returns whether it was woken; the wake-up is used up by it."""
        woken, place.woken = place.woken, False
        self._waiting.pop(place, None)
        self._asking[place] = None
        return woken

    def work_came(self, pieces: int) -> None:
        """``pieces`` of work may be there: as many are to be woken, as far as there are so many."""
        self._owed = min(self._owed + pieces, len(self._waiting) + len(self._asking))

    def all_may_have_missed_some(self) -> None:
        """Nobody knows what was notified: each is to look for itself."""
        self.work_came(len(self._places))

    def wake(self, now_s: float) -> list[Place]:
        """Whom to wake now. Call it again soon while ``owes``."""
        woken: list[Place] = []
        while self._owed and self._bucket.take(now_s):
            line = self._waiting or self._asking
            place = next(iter(line))
            del line[place]
            place.woken = True
            woken.append(place)
            self._owed -= 1
        return woken
