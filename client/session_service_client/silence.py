"""Whether a socket that must speak has fallen silent (docs/exchange-data.md#numbers). Pure: times are given."""

from __future__ import annotations

from enum import Enum, auto

HELD_UP_S = 0.1  # a look that is later than this: the caller's own loop does not keep up


class Look(Enum):
    """What a look at a socket comes to."""

    NOTHING = auto()  # it speaks, or it is too early to say
    ASK = auto()  # send it something that it has to answer
    LOST = auto()  # it says nothing and answers nothing


class Silence:
    """Looks at one socket on which a frame has to come more often than every ``limit_s`` / 2 seconds.

    After half the limit it is asked: a pod that is there answers, though its simulator may be silent. A look that
    comes late says that this process was held up, not that the socket was silent: what has arrived meanwhile waits to
    be read. It is put off.
    """

    __slots__ = ("_asked_s", "_limit_s", "next_s")

    def __init__(self, now_s: float, limit_s: float) -> None:
        self._limit_s = limit_s
        self._asked_s: float | None = None
        self.next_s = now_s + limit_s / 2  # when to look again

    def look(self, now_s: float, last_heard_s: float) -> Look:
        if now_s < self.next_s:
            return Look.NOTHING
        speaks_until_s = last_heard_s + self._limit_s / 2
        if now_s < speaks_until_s:
            self.next_s = speaks_until_s
            return Look.NOTHING
        if now_s - self.next_s > HELD_UP_S:
            self.next_s = now_s + self._limit_s / 4
            return Look.NOTHING
        if self._asked_s is None or self._asked_s <= last_heard_s:
            self._asked_s = now_s
            self.next_s = now_s + self._limit_s / 2
            return Look.ASK
        return Look.LOST
