"""StreamManager: exchange data for every socket of this pod (docs/exchange-data.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from session_service.domain.market import Position
from session_service.telemetry.metrics import Metrics
from session_service.websocket.frame_sink import FrameSink, StreamLimits
from session_service.websocket.session_feed import AddressOf, Attachment, FeedContext, SessionFeed, UpdateSource

__all__ = ["Attachment", "FrameSink", "Position", "StreamLimits", "StreamManager"]


class StreamManager:
    """One feed per session that has sockets here. Belongs to one event loop.

    ``address_of(session_id)`` gives the address of the session's RUNNING simulator, or None; where it raises a
    ``SessionServiceError`` (the database is away) the last known address is used. ``clock``: monotonic seconds.
    ``on_stream_lost(session_id, simulator_id)`` is called each time a live stream could not be opened, broke or was
    ended by the simulator; it must return at once. Lost events are not looked for here: whoever re-reads the
    simulators' rows calls ``simulator_changed`` for those that changed.
    """

    def __init__(
        self,
        exchange: UpdateSource,
        address_of: AddressOf,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        *,
        limits: StreamLimits | None = None,
        pod_name: str = "pod",
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self.on_stream_lost: Callable[[str, str], None] = _ignore
        self._feeds: dict[str, SessionFeed] = {}
        self._restless: dict[SessionFeed, None] = {}
        self._poll_timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._limits = limits if limits is not None else StreamLimits()
        self._context = FeedContext(
            exchange,
            address_of,
            metrics,
            clock=clock,
            now_ms=now_ms if now_ms is not None else _wall_clock_ms,
            limits=self._limits,
            pod_name=pod_name,
            on_stream_lost=self._stream_lost,
            on_restless=self._watch,
            on_empty=self._end,
        )

    def attach(
        self,
        session_id: str,
        client_id: str,
        sink: FrameSink,
        position: Position | None,
        symbols: frozenset[str] | None,
    ) -> Attachment:
        """A place for one socket in the session's stream, held until ``start``. ``position`` None: by a snapshot.

        Symbols are not checked here, since the simulator may not be known yet: unknown ones match nothing.
        """
        feed = self._feeds.get(session_id)
        if feed is None:
            feed = self._feeds[session_id] = SessionFeed(session_id, self._context)
        return feed.attach(client_id, sink, position, symbols)

    def simulator_changed(self, session_id: str) -> None:
        """The session's simulator started, stopped, or was replaced. Does nothing for a session without sockets."""
        feed = self._feeds.get(session_id)
        if feed is not None:
            feed.recheck()

    async def close(self) -> None:
        """End every stream; no sink is written to afterwards. Cancelled, it leaves the rest to a next call."""
        if self._poll_timer is not None:
            self._poll_timer.cancel()
            self._poll_timer = None
        self._restless.clear()
        for feed in list(self._feeds.values()):
            await feed.close()
        self._feeds.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _end(self, feed: SessionFeed) -> None:
        if not feed.is_empty or self._feeds.get(feed.session_id) is not feed:
            return
        del self._feeds[feed.session_id]
        self._restless.pop(feed, None)
        task = asyncio.get_running_loop().create_task(feed.close(), name=f"feed-close {feed.session_id}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _stream_lost(self, session_id: str, simulator_id: str) -> None:
        self.on_stream_lost(session_id, simulator_id)  # read now: it is set after construction

    def _watch(self, feed: SessionFeed) -> None:
        self._restless[feed] = None
        if self._poll_timer is None:
            self._poll_timer = asyncio.get_running_loop().call_later(self._limits.poll_s, self._poll)

    def _poll(self) -> None:
        """One timer for all feeds, and only while one of them has a slow socket or a range to send."""
        self._poll_timer = None
        feeds, self._restless = self._restless, {}
        for feed in feeds:
            if feed.poll():
                self._watch(feed)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _ignore(_session_id: str, _simulator_id: str) -> None:
    pass
