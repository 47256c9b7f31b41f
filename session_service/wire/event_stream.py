"""Server-sent events (WHATWG HTML §9.2): how an event is written, whatever it tells."""

from __future__ import annotations

HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
COMMENT_INTERVAL_S = 15.0  # what stands between may close a connection that is silent for long
KEEP_ALIVE = b": keep-alive\n\n"


def event_text(name: bytes, data: bytes, event_id: bytes | None = None) -> bytes:
    """One event. ``data`` is one line, such as JSON; without ``event_id`` the client's last id stays."""
    if event_id is None:
        return b"event: %b\ndata: %b\n\n" % (name, data)
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name, event_id, data)
