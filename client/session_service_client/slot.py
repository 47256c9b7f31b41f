"""Moving to another pod at this client's own slot (docs/protocol.md, "Moving during a deploy"). Pure."""

from __future__ import annotations

from enum import Enum, auto


class Step(Enum):
    WAIT = auto()
    OPEN = auto()  # the new socket; the old one is read on
    SWITCH = auto()  # leave the old socket: the new one delivers
    GIVE_UP = auto()  # leave the old socket, though there is no new one


class Slot:
    """Made when ``pod_terminating`` came, with the instants of the caller's monotonic clock, in seconds."""

    __slots__ = ("deadline_s", "opens_at_s")

    def __init__(self, now_s: float, *, reconnect_after_s: float, deadline_s: float) -> None:
        self.deadline_s = now_s + deadline_s
        self.opens_at_s = min(now_s + reconnect_after_s, self.deadline_s)

    def postpone(self, until_s: float) -> None:
        """The new socket could not be opened: try again at that instant, as long as there is time."""
        self.opens_at_s = until_s

    def step(self, now_s: float, *, opened: bool, delivers: bool) -> Step:
        """``opened``: the new socket is connected; ``delivers``: it had its first frame, or will have none."""
        if opened:
            return Step.SWITCH if delivers or now_s >= self.deadline_s else Step.WAIT
        if now_s >= self.deadline_s:
            return Step.GIVE_UP
        return Step.OPEN if now_s >= self.opens_at_s else Step.WAIT

    def next_s(self, *, opened: bool) -> float:
        """When ``step`` has something new to say, unless a frame comes before."""
        return self.deadline_s if opened else min(self.opens_at_s, self.deadline_s)
