"""Which pods are dead: observed, not computed from clocks. Pure; ``now_s`` is the observer's own monotonic clock.

A pod raises the beat of its row every third of the lease. One whose beat stood still for a whole lease, over at least
three looks in a row at each of which the observer could renew its own beat, is dead. Whatever kept the observer from
looking (PostgreSQL away, the process frozen) begins the observation anew: it may have kept the others from renewing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

LOOKS_NEEDED = 3


class PodState(msgspec.Struct, frozen=True):
    """A row of ``session.pods``, as far as life and death go."""

    pod_id: str
    pod_name: str
    beat: int
    draining: bool
    dead: bool


class _Watched(msgspec.Struct):
    beat: int
    looks: int = 0  # in a row, at which the beat stood still
    since_s: float = 0.0  # when the first of them was


class LivenessObserver:
    """One pod's view of the others. Memory is bounded by the rows it is shown."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._watched: dict[str, _Watched] = {}
        self._last_look_s: float | None = None

    def look(self, now_s: float, pods: Iterable[PodState]) -> list[PodState]:
        """Take a successful read, made after the observer's own beat was raised. Returns those that are dead by now,
        to be declared so under the condition that their beat is still the one seen.
        """
        if self._last_look_s is not None and now_s - self._last_look_s > self._lease_s:
            self.interrupted()  # this process itself stood still
        self._last_look_s = now_s
        watched: dict[str, _Watched] = {}
        dead = []
        for pod in pods:
            if pod.dead:
                continue
            seen = self._watched.get(pod.pod_id)
            if seen is None or seen.beat != pod.beat:
                seen = _Watched(pod.beat)
            if seen.looks == 0:
                seen.since_s = now_s
            seen.looks += 1
            watched[pod.pod_id] = seen
            if seen.looks > LOOKS_NEEDED and now_s - seen.since_s >= self._lease_s:
                dead.append(pod)
        self._watched = watched
        return dead

    def interrupted(self) -> None:
        """A look failed, or came far too late: what was seen until now proves nobody dead."""
        for seen in self._watched.values():
            seen.looks = 0
