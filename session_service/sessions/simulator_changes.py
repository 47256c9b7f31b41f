"""Simulators that changed though no event told of it: found in PostgreSQL, and told here as if one had come."""

from __future__ import annotations

from collections.abc import Callable

from session_service.database.events import EventBus
from session_service.database.sockets import SocketRepository
from session_service.domain.events import SessionEvent
from session_service.domain.simulator import Simulator


class SimulatorChanges:
    """A cursor over ``simulator.instances``. A look reads what has changed since the one before, nothing else."""

    def __init__(self, sockets: SocketRepository, events: EventBus, *, pod_id: Callable[[], str]) -> None:
        self._sockets = sockets
        self._events = events
        self._pod_id = pod_id
        self._next = 0
        # Sessions with an event since the look began: it may be newer than what was read.
        self._heard: set[str] = set()
        events.subscribe(self._on_event)

    async def round(self, is_news: Callable[[Simulator], bool]) -> None:
        """Tell this pod's subscribers of each change that ``is_news``. Raises DatabaseUnavailableError."""
        self._heard.clear()
        following, changed = await self._sockets.simulators_changed(self._pod_id(), self._next)
        known = [simulator for simulator in changed if simulator.session_id not in self._heard]
        if len(known) == len(changed):
            # Smaller than before: another server took over, that counts from elsewhere.
            self._next = following if following >= self._next else 0
        for simulator in known:
            if is_news(simulator):
                self._events.tell_here(simulator)

    def _on_event(self, event: SessionEvent) -> None:
        if event.simulator_id is not None and event.session_id is not None:
            self._heard.add(event.session_id)
