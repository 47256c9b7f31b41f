"""Running simulators that this pod has seen, so that streams and orders do not ask PostgreSQL each time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from session_service.domain.simulator import Simulator, SimulatorStatus

KNOWN_FOR_S = 5.0  # how long a row is believed without a look
BELIEVED_FOR_S = 300.0  # and how much longer while PostgreSQL is away


class _Seen(msgspec.Struct):
    simulator: Simulator
    until: float


class RunningSimulators:
    """Rows in RUNNING, by session and by id. ``forget`` at every event of a session. No I/O; ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_session: dict[str, _Seen] = {}
        self._session_of: dict[str, str] = {}
        self.version = 0  # grows with every ``forget``

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
        """A row was read. ``version``: as it was before the read; a row from before an event is not believed."""
        if simulator is None or simulator.status is not SimulatorStatus.RUNNING or version != self.version:
            return
        self._drop(simulator.session_id)
        self._by_session[simulator.session_id] = _Seen(simulator, self._clock() + KNOWN_FOR_S)
        self._session_of[simulator.simulator_id] = simulator.session_id

    def forget(self, session_id: str) -> None:
        """Something has happened to the session or its simulator."""
        self.version += 1
        self._drop(session_id)

    def sweep(self) -> None:
        """Drop what is not believed even without PostgreSQL."""
        horizon = self._clock() - BELIEVED_FOR_S
        for session_id in [key for key, seen in self._by_session.items() if seen.until < horizon]:
            self._drop(session_id)

    def _drop(self, session_id: str) -> None:
        seen = self._by_session.pop(session_id, None)
        if seen is not None:
            self._session_of.pop(seen.simulator.simulator_id, None)
