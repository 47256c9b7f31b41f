"""Emitters: every outbound message, formatted, and encoded once for all connections that get it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec

from session_service.domain.market import Position
from session_service.domain.quality import Quality
from session_service.domain.session import Session
from session_service.domain.simulator import Simulator, SimulatorStatus, shown_status
from session_service.errors import ErrorCode, SessionServiceError
from session_service.websocket.session_entry import SessionEntry
from session_service.wire.event_stream import event_text
from session_service.wire.frames import text_frame
from session_service.wire.messages import (
    Connected,
    ConnectionQualityUpdate,
    ConnectionReplaced,
    ErrorMessage,
    Heartbeat,
    HeartbeatAck,
    Limits,
    PodTerminating,
    Reconnect,
    ReconnectResult,
    Result,
    ServerMessage,
    SessionEnded,
    SessionInfo,
    SimulatorStatusMessage,
    UnreadableMessage,
)

_encode = msgspec.json.Encoder().encode


class Outgoing:
    """One message, encoded. The forms for WebSockets and event streams are made when the first of its kind asks."""

    __slots__ = ("_event_stream", "_payload", "_websocket", "type")

    def __init__(self, message: ServerMessage) -> None:
        self.type = message.TYPE
        self._payload = _encode(message)
        self._websocket: bytes | None = None
        self._event_stream: bytes | None = None

    @property
    def websocket(self) -> bytes:
        if self._websocket is None:
            self._websocket = text_frame(self._payload)
        return self._websocket

    @property
    def event_stream(self) -> bytes:
        """No ``id``: only exchange data advances a client."""
        if self._event_stream is None:
            self._event_stream = event_text(self.type.encode(), self._payload)
        return self._event_stream


class Emitters:
    """Makes every server message of docs/protocol.md but ``exchange_data``."""

    def __init__(self, pod_name: str, heartbeat_interval_s: float) -> None:
        self._pod_name = pod_name
        self._heartbeat_interval_ms = round(heartbeat_interval_s * 1000)
        self._limits = Limits()

    def connected(
        self, client_id: str, entry: SessionEntry, *, is_new: bool, position: Position | None, resumed: bool
    ) -> Outgoing:
        return Outgoing(
            Connected(
                timestamp=now_ms(),
                client_id=client_id,
                device_id=entry.device_id,
                session_id=entry.session_id,
                is_new=is_new,
                pod_name=self._pod_name,
                epoch=None if position is None else position.epoch,
                sequence=None if position is None else position.sequence,
                resumed=resumed,
                simulator_status=entry.simulator_status,
                heartbeat_interval_ms=self._heartbeat_interval_ms,
                expires_at=rfc3339(entry.expires_at),
                limits=self._limits,
            )
        )

    def heartbeat_ack(
        self, entry: SessionEntry, heartbeat: Heartbeat, quality: Quality, *, reconnect_recommended: bool
    ) -> Outgoing:
        """``deviceIdValid`` compares what the client says with what its session is bound to, nothing else."""
        return Outgoing(
            HeartbeatAck(
                timestamp=now_ms(),
                client_timestamp=heartbeat.timestamp,
                device_id=heartbeat.device_id,
                device_id_valid=is_device_valid(entry, heartbeat.device_id),
                session_status="valid",
                simulator_status=entry.simulator_status,
                connection_quality=quality,
                reconnect_recommended=reconnect_recommended,
            )
        )

    def reconnect_result(
        self, entry: SessionEntry, request: Reconnect, *, success: bool, message: str, gone: bool, resumed: bool
    ) -> Outgoing:
        """``gone``: the session is known to be over, not merely out of reach."""
        return Outgoing(
            ReconnectResult(
                timestamp=now_ms(),
                request_id=request.request_id,
                success=success,
                message=message,
                device_id=request.device_id,
                device_id_valid=is_device_valid(entry, request.device_id),
                session_status="invalid" if gone else "valid",
                simulator_status=entry.simulator_status,
                resumed=resumed,
            )
        )

    def session_info(self, request_id: str, session: Session, simulator: Simulator | None) -> Outgoing:
        return Outgoing(
            SessionInfo(
                timestamp=now_ms(),
                request_id=request_id,
                session_id=session.session_id,
                user_id=session.user_id,
                status=session.status,
                device_id=session.device_id,
                created_at=rfc3339(session.created_at),
                expires_at=rfc3339(session.expires_at),
                simulator_id=None if simulator is None else simulator.simulator_id,
                simulator_status=SimulatorStatus.NONE if simulator is None else shown_status(simulator.status),
            )
        )

    def simulator_status(self, entry: SessionEntry) -> Outgoing:
        return Outgoing(
            SimulatorStatusMessage(
                timestamp=now_ms(),
                simulator_id=entry.simulator_id,
                status=entry.simulator_status,
                reason=entry.simulator_reason,
                queue_position=entry.queue_position,
            )
        )

    def started(self, request_id: str, simulator: Simulator) -> Outgoing:
        return Outgoing(
            Result(
                timestamp=now_ms(),
                request_id=request_id,
                success=True,
                simulator_id=simulator.simulator_id,
                status=shown_status(simulator.status),
            )
        )

    def result(
        self, request_id: str, *, status: SimulatorStatus | None = None, symbols: list[str] | None = None
    ) -> Outgoing:
        return Outgoing(
            Result(
                timestamp=now_ms(),
                request_id=request_id,
                success=True,
                status=None if status is None else shown_status(status),
                symbols=symbols,
            )
        )

    def order_result(
        self,
        request_id: str,
        *,
        order_id: str,
        status: str,
        filled_quantity: int,
        average_price: float,
        rejected_code: ErrorCode | None = None,
        reason: str | None = None,
    ) -> Outgoing:
        return Outgoing(
            Result(
                timestamp=now_ms(),
                request_id=request_id,
                success=rejected_code is None,
                code=rejected_code,
                error=reason if rejected_code is not None else None,
                reason=reason,
                order_id=order_id,
                status=status,
                filled_quantity=filled_quantity,
                average_price=average_price,
            )
        )

    def failure(self, request_id: str, code: ErrorCode, error: str, field: str | None = None) -> Outgoing:
        return Outgoing(
            Result(timestamp=now_ms(), request_id=request_id, success=False, code=code, error=error, field=field)
        )

    def quality_update(self, quality: Quality, *, reconnect_recommended: bool) -> Outgoing:
        return Outgoing(
            ConnectionQualityUpdate(
                timestamp=now_ms(),
                quality=quality,
                reconnect_recommended=reconnect_recommended,
            )
        )

    def pod_terminating(self, *, reconnect_after_s: float, deadline_s: float, reason: str) -> Outgoing:
        return Outgoing(
            PodTerminating(
                timestamp=now_ms(),
                reconnect_after_ms=round(reconnect_after_s * 1000),
                deadline_ms=round(deadline_s * 1000),
                reason=reason,
            )
        )

    def session_ended(self, reason: str) -> Outgoing:
        return Outgoing(SessionEnded(timestamp=now_ms(), reason=reason))

    def connection_replaced(self, reason: str) -> Outgoing:
        return Outgoing(ConnectionReplaced(timestamp=now_ms(), reason=reason))

    def refusal(self, refusal: UnreadableMessage) -> Outgoing:
        return Outgoing(
            ErrorMessage(
                timestamp=now_ms(),
                error_code=refusal.code,
                message=refusal.message,
                request_id=refusal.request_id,
                details=None if refusal.field is None else {"field": refusal.field},
            )
        )

    def error(self, error: SessionServiceError, request_id: str | None = None) -> Outgoing:
        return Outgoing(
            ErrorMessage(timestamp=now_ms(), error_code=error.code, message=error.message, request_id=request_id)
        )


def is_device_valid(entry: SessionEntry, device_id: str) -> bool:
    """A session without a device (made before devices were bound) fits every one."""
    return entry.device_id is None or entry.device_id == device_id


def rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def now_ms() -> int:
    return time.time_ns() // 1_000_000
