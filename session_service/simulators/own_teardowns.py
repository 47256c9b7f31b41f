"""Workloads that this pod's own calls left to remove: removed at once, without waiting for the sweeper's round."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from session_service.database.events import EventBus
from session_service.domain.events import EventType, SessionEvent
from session_service.errors import UnavailableError

log = structlog.get_logger(__name__)


class OwnTeardowns:
    """Calls ``tear_down`` after each session that was ended here; several that end together are one call."""

    def __init__(self, events: EventBus, tear_down: Callable[[], Awaitable[None]]) -> None:
        self._events = events
        self._tear_down = tear_down
        self._due = asyncio.Event()
        events.subscribe(self._on_event)

    async def run(self) -> None:
        """Runs until it is cancelled. What fails is the sweeper's to find."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._tear_down()
            except UnavailableError as error:
                log.warning("own_teardown_failed", code=error.code)

    def _on_event(self, event: SessionEvent) -> None:
        if event.type is EventType.SESSION_ENDED and self._events.is_own(event):
            self._due.set()
