"""Running simulators that this pod knows of, so that streams, orders and heartbeats do not depend on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from session_service.domain.simulator import Simulator, SimulatorStatus

KNOWN_FOR_S = 5.0  # how long a row is believed without a look; while PostgreSQL is away, for as long as that takes


class _Seen(msgspec.Struct):
    simulator: Simulator
    until: float
    version: int


class RunningSimulators:
    """Rows in RUNNING, by session and by id. No I/O; ``clock`` in seconds.

    ``forget`` is called at every event of a session, ``refresh`` with each round's look at all rows: memory is
    bounded by the simulators that run. A reader notes ``version`` before it asks PostgreSQL, so that a row from
    before an event is not believed after it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_session: dict[str, _Seen] = {}
        self._session_of: dict[str, str] = {}
        self._forgotten: dict[str, int] = {}  # by session: the version of its last event, since the last round
        self.version = 0

    def all(self) -> list[Simulator]:
        """Every one, however long ago it was seen."""
        return [seen.simulator for seen in self._by_session.values()]

    def of_session(self, session_id: str, *, stale: bool = False) -> Simulator | None:
        """The simulator if it was seen just now; ``stale``: also if that was longer ago."""
        seen = self._by_session.get(session_id)
        if seen is None or (not stale and seen.until <= self._clock()):
            return None
        return seen.simulator

    def by_id(self, simulator_id: str, *, stale: bool = False) -> Simulator | None:
        """As ``of_session``, by the simulator's own id."""
        return self.of_session(self._session_of.get(simulator_id, ""), stale=stale)

    def remember(self, simulator: Simulator | None, version: int) -> None:
        """A row was read, at ``version``."""
        if simulator is None or simulator.status is not SimulatorStatus.RUNNING:
            return
        if self._forgotten.get(simulator.session_id, 0) > version:
            return
        self._drop(simulator.session_id)
        self._by_session[simulator.session_id] = _Seen(simulator, self._clock() + KNOWN_FOR_S, version)
        self._session_of[simulator.simulator_id] = simulator.session_id

    def refresh(self, running: Sequence[Simulator], version: int) -> None:
        """All running rows were read, at ``version``: what is not among them runs no more."""
        there = {simulator.session_id for simulator in running}
        for session_id, seen in list(self._by_session.items()):
            if session_id not in there and seen.version <= version:
                self._drop(session_id)
        for simulator in running:
            self.remember(simulator, version)
        self._forgotten = {session: at for session, at in self._forgotten.items() if at > version}

    def forget(self, session_id: str) -> None:
        """Something has happened to the session or its simulator."""
        self.version += 1
        self._forgotten[session_id] = self.version
        self._drop(session_id)

    def _drop(self, session_id: str) -> None:
        seen = self._by_session.pop(session_id, None)
        if seen is not None:
            self._session_of.pop(seen.simulator.simulator_id, None)
