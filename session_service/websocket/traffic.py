"""Counting messages without paying for a metric on each: plain sums here, added to the metrics once a second."""

from __future__ import annotations

from session_service.telemetry.metrics import Metrics
from session_service.wire.messages import CLIENT_MESSAGE_TYPES

UNKNOWN_TYPE = "unknown"


class Traffic:
    """Messages of this pod's sockets by direction and type. Types are those of the protocol, or ``unknown``."""

    __slots__ = ("_metrics", "_received", "_sent", "exchange_frames")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._received: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self.exchange_frames = 0

    def received(self, message_type: str | None) -> None:
        bounded = message_type if message_type in CLIENT_MESSAGE_TYPES else UNKNOWN_TYPE
        self._received[bounded] = self._received.get(bounded, 0) + 1

    def sent(self, message_type: str) -> None:
        self._sent[message_type] = self._sent.get(message_type, 0) + 1

    def error(self, error_type: str) -> None:
        """``error_type`` is one of our own names: an error code, a close code's name."""
        self._metrics.websocket_errors_total.labels(error_type).inc()

    def flush(self) -> None:
        counter = self._metrics.websocket_messages_total
        if self.exchange_frames:
            self._sent["exchange_data"] = self._sent.get("exchange_data", 0) + self.exchange_frames
            self.exchange_frames = 0
        for direction, counts in (("received", self._received), ("sent", self._sent)):
            for message_type, count in counts.items():
                counter.labels(direction, message_type).inc(count)
            counts.clear()
