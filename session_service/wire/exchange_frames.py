"""The ``exchange_data`` frame (docs/exchange-data.md), encoded once for every socket that gets it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from session_service.domain.market import MarketUpdate, OrderUpdate, Portfolio, Quote
from session_service.wire.event_stream import event_text
from session_service.wire.fields import SequenceNumber
from session_service.wire.frames import text_frame


class ExchangeContent(msgspec.Struct, rename="camel", gc=False):
    """What has changed, or with a snapshot everything. ``timestamp``: the simulator's clock, ms since 1970."""

    timestamp: int
    market_data: tuple[Quote, ...]
    order_updates: tuple[OrderUpdate, ...]
    portfolio: Portfolio | None


class ExchangeData(msgspec.Struct, rename="camel", tag_field="type", tag="exchange_data", gc=False):
    """The updates ``from_sequence`` … ``sequence`` of ``epoch``. ``timestamp``: ms since 1970."""

    timestamp: int
    epoch: SequenceNumber
    from_sequence: SequenceNumber
    sequence: SequenceNumber
    snapshot: bool
    data: ExchangeContent


_encode = msgspec.json.Encoder().encode


class ExchangeFrame:
    """One encoded ``exchange_data``, or several successive ones that go out in one write (``messages`` of them).

    ``websocket`` is what goes to a WebSocket's transport as it is: header and payload of each frame. ``event_stream``
    is the same for a server-sent event stream, with ``id: epoch:sequence``. Both are shared: never change them.
    """

    __slots__ = (
        "_event_stream",
        "_parts",
        "_payload",
        "epoch",
        "from_sequence",
        "messages",
        "sequence",
        "snapshot",
        "websocket",
    )

    def __init__(
        self,
        epoch: int,
        from_sequence: int,
        sequence: int,
        snapshot: bool,
        payload: bytes,
        parts: Sequence[ExchangeFrame] = (),
    ) -> None:
        self.epoch = epoch
        self.from_sequence = from_sequence
        self.sequence = sequence
        self.snapshot = snapshot
        self.websocket: bytes = b"".join([part.websocket for part in parts]) if parts else text_frame(payload)
        self.messages = len(parts) or 1
        self._payload = payload
        self._parts = parts
        self._event_stream: bytes | None = None

    @property
    def event_stream(self) -> bytes:
        """Made when the first event stream asks: most sessions have none."""
        if self._event_stream is None:
            if self._parts:
                self._event_stream = b"".join([part.event_stream for part in self._parts])
            else:
                self._event_stream = event_text(
                    b"exchange_data", self._payload, b"%d:%d" % (self.epoch, self.sequence)
                )
        return self._event_stream


def exchange_frame(update: MarketUpdate, now_ms: int) -> ExchangeFrame:
    """Encode one update. ``now_ms``: the frame's ``timestamp``, milliseconds since 1970."""
    payload = _encode(
        ExchangeData(
            now_ms,
            update.epoch,
            update.from_sequence,
            update.sequence,
            update.snapshot,
            ExchangeContent(update.timestamp_ms, update.quotes, update.order_updates, update.portfolio),
        )
    )
    return ExchangeFrame(update.epoch, update.from_sequence, update.sequence, update.snapshot, payload)


def joined(frames: Sequence[ExchangeFrame]) -> ExchangeFrame:
    """Successive frames of one epoch as one write. ``frames`` is not empty."""
    if len(frames) == 1:
        return frames[0]
    first, last = frames[0], frames[-1]
    return ExchangeFrame(last.epoch, first.from_sequence, last.sequence, first.snapshot, b"", frames)
