"""The golden frames of the contract, as this client reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
from session_service_client import frames
from session_service_client.events import OrderUpdate, Position, SimulatorStatus

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "contract" / "websocket" / "frames.json").read_text(encoding="utf-8")
)["server"]


def test_connected() -> None:
    connected = frames.read_connected(GOLDEN["connected"], url="http://a", attempt=2, pause_s=0.5)
    assert connected.position == Position(3667506599548055, 41)
    assert (connected.pod_name, connected.resumed, connected.heartbeat_interval_s) == ("pod-0", True, 10.0)
    unknown = {**GOLDEN["connected"], "epoch": None, "sequence": None}
    assert frames.read_connected(unknown, url="", attempt=1, pause_s=None).position is None


def test_exchange_data() -> None:
    data = frames.read_exchange_data(GOLDEN["exchange_data"])
    assert (data.from_sequence, data.sequence, data.snapshot) == (42, 43, False)
    assert data.quotes[0].bid == 189.99
    assert data.order_updates == (OrderUpdate("o1", "AAPL", "FILLED", 10, 189.99, 43, None),)
    assert data.portfolio is not None
    assert data.portfolio.positions[0].market_value == 1900.0


def test_the_others() -> None:
    assert frames.read_simulator_status(GOLDEN["simulator_status"]) == SimulatorStatus(
        "sim-1", "ERROR", "state_lost", None
    )
    waiting = {"type": "simulator_status", "simulatorId": "sim-1", "status": "STARTING", "queuePosition": 3}
    assert frames.read_simulator_status(waiting) == SimulatorStatus("sim-1", "STARTING", None, 3)
    assert frames.read_pod_terminating(GOLDEN["pod_terminating"]).reconnect_after_s == 1.2
    assert frames.read_quality(GOLDEN["connection_quality_update"]).quality == "POOR"
    assert frames.read_notice(GOLDEN["error"]).code == "INVALID_REQUEST"


def test_a_frame_without_its_fields_is_no_frame() -> None:
    with pytest.raises(KeyError):
        frames.read_exchange_data({"type": "exchange_data"})
