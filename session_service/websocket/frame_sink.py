"""What the fan-out of exchange data needs of a connection, and the limits it keeps."""

from __future__ import annotations

from typing import Protocol

import msgspec

from session_service.wire.exchange_frames import ExchangeFrame


class FrameSink(Protocol):
    """A WebSocket or an event stream. Every call is made in the event loop and returns at once."""

    def send_exchange_frame(self, frame: ExchangeFrame) -> None:
        """One non-blocking write; never raises, also when the connection is gone."""

    def unsent_bytes(self) -> int:
        """What was written and has not yet gone to the peer."""

    def too_slow(self) -> None:
        """The reader is past its bounds: close with 4008, or abort. No frame comes after this."""


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the data plane; the defaults are those of docs/exchange-data.md."""

    unsent_limit_bytes: int = 64 * 1024  # above it a socket no longer shares frames: it gets one merged frame later
    check_bytes: int = 16 * 1024  # sockets are asked for their unsent bytes each time this much was sent to them
    low_water_bytes: int = 16 * 1024  # drained to this, it gets its merged frame and shares again
    pending_order_updates: int = 1_000  # in one merge; past it the socket is closed
    pending_bytes: int = 256 * 1024
    no_progress_s: float = 10.0  # without one byte taken: closed
    carry_s: float = 0.5  # updates without anything for a filter: their range goes out after this (at most 1 s)
    gather_s: float = 0.002  # updates closer together than this go out in one write
    poll_s: float = 0.25  # how often slow sockets are looked at while no update comes
    recent_items: int = 320  # quotes, orders and positions of recent updates kept per session, for quick resumes
    linger_s: float = 5.0  # a stream without sockets is kept for this long
    retry_first_s: float = 0.1
    retry_max_s: float = 2.0
