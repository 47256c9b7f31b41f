"""Golden frames: the exact JSON of every message, shared with the clients' own tests.

``frames.json``: ``client`` messages that must be read, ``server`` messages as they are sent, by type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from session_service.domain.market import Holding, MarketUpdate, OrderUpdate, Portfolio, Quote
from session_service.domain.quality import Quality
from session_service.wire import messages
from session_service.wire.exchange_frames import exchange_frame
from session_service.wire.messages import CLIENT_MESSAGE_TYPES, ServerMessage, UnreadableMessage, decode

FRAMES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "frames.json").read_text(encoding="utf-8"))
NOW_MS = 1_795_168_839_725

SERVER: dict[str, ServerMessage] = {
    "connected": messages.Connected(
        timestamp=NOW_MS,
        client_id="tab-1",
        device_id="device-1",
        session_id="5f0c",
        is_new=False,
        pod_name="pod-0",
        epoch=3_667_506_599_548_055,
        sequence=41,
        resumed=True,
        simulator_status="RUNNING",
        heartbeat_interval_ms=10_000,
        expires_at="2026-11-20T11:00:00Z",
        limits=messages.Limits(),
    ),
    "heartbeat_ack": messages.HeartbeatAck(
        timestamp=NOW_MS,
        client_timestamp=NOW_MS - 20,
        device_id="device-1",
        device_id_valid=True,
        session_status="valid",
        simulator_status="NONE",
        connection_quality=Quality.GOOD,
        reconnect_recommended=False,
    ),
    "reconnect_result": messages.ReconnectResult(
        timestamp=NOW_MS,
        request_id="r1",
        success=True,
        message="reconnected",
        device_id="device-1",
        device_id_valid=True,
        session_status="valid",
        simulator_status="RUNNING",
        resumed=True,
    ),
    "simulator_status": messages.SimulatorStatusMessage(
        timestamp=NOW_MS, simulator_id="sim-1", status="ERROR", reason="state_lost"
    ),
    "session_info": messages.SessionInfo(
        timestamp=NOW_MS,
        request_id="r2",
        session_id="5f0c",
        user_id="user-1",
        status="ACTIVE",
        device_id="device-1",
        created_at="2026-11-20T10:00:00Z",
        expires_at="2026-11-20T11:00:00Z",
        simulator_id=None,
        simulator_status="NONE",
    ),
    "result": messages.Result(
        timestamp=NOW_MS,
        request_id="r3",
        success=True,
        order_id="o1",
        status="FILLED",
        filled_quantity=10,
        average_price=189.99,
    ),
    "connection_quality_update": messages.ConnectionQualityUpdate(
        timestamp=NOW_MS, quality=Quality.POOR, reconnect_recommended=True
    ),
    "pod_terminating": messages.PodTerminating(
        timestamp=NOW_MS, reconnect_after_ms=1200, deadline_ms=20_000, reason="SIGTERM"
    ),
    "session_ended": messages.SessionEnded(timestamp=NOW_MS, reason="ended"),
    "connection_replaced": messages.ConnectionReplaced(timestamp=NOW_MS, reason="newer_connection"),
    "error": messages.ErrorMessage(
        timestamp=NOW_MS,
        error_code="INVALID_REQUEST",
        message="deviceId: is required",
        request_id="r4",
        details={"field": "deviceId"},
    ),
}
UPDATE = MarketUpdate(
    epoch=3_667_506_599_548_055,
    from_sequence=42,
    sequence=43,
    snapshot=False,
    timestamp_ms=NOW_MS - 5,
    quotes=(Quote("AAPL", 189.99, 190.02, 100, 700, 190.0, 100),),
    order_updates=(OrderUpdate("o1", "AAPL", "FILLED", 10, 189.99, 43),),
    portfolio=Portfolio((Holding("AAPL", 10, 189.99, 1900.0),), 98_100.1, 100_000.1),
)


def sent() -> dict[str, Any]:
    frames = {name: json.loads(msgspec.json.encode(message)) for name, message in SERVER.items()}
    payload = exchange_frame(UPDATE, NOW_MS).event_stream.split(b"data: ", 1)[1]
    return {**frames, "exchange_data": json.loads(payload)}


@pytest.mark.parametrize("message_type", [*SERVER, "exchange_data"])
def test_server_frames_are_as_recorded(message_type: str) -> None:
    frame = sent()[message_type]
    assert frame == FRAMES["server"][message_type]
    assert frame["type"] == message_type
    assert isinstance(frame["timestamp"], int)


def test_there_is_a_frame_for_every_type() -> None:
    assert set(FRAMES["client"]) == CLIENT_MESSAGE_TYPES
    named = {str(one.__struct_config__.tag) for one in ServerMessage.__subclasses__()}
    assert set(FRAMES["server"]) == named | {"exchange_data"}
    assert all(one.__struct_config__.tag == one.TYPE for one in ServerMessage.__subclasses__())


@pytest.mark.parametrize("message_type", sorted(CLIENT_MESSAGE_TYPES))
def test_client_frames_are_read_whole(message_type: str) -> None:
    recorded = FRAMES["client"][message_type]
    message = decode(json.dumps(recorded).encode())
    assert not isinstance(message, UnreadableMessage), message
    assert json.loads(msgspec.json.encode(message)) == recorded
