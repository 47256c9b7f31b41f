"""The golden frames of the contract, as this client reads them."""

import pytest
from session_service_client import frames
from session_service_client.events import OrderUpdate, Position, SimulatorStatus

from tests.support.golden_frames import cases

SERVER = cases("server_messages")


def frame(name: str) -> frames.Frame:
    case: frames.Frame = SERVER[name]["frame"]
    return case


def test_connected() -> None:
    connected = frames.read_connected(frame("connected, resumed"), url="http://a", attempt=2, pause_s=0.5)
    assert connected.position == Position(3667506599548055, 41)
    assert (connected.pod_name, connected.resumed, connected.heartbeat_interval_s) == ("pod-0", True, 10.0)
    unknown = frame("connected, a new session without a simulator")
    assert frames.read_connected(unknown, url="", attempt=1, pause_s=None).position is None


def test_exchange_data() -> None:
    data = frames.read_exchange_data(frame("exchange_data, two updates merged, an order filled"))
    assert (data.from_sequence, data.sequence, data.snapshot) == (42, 43, False)
    assert data.quotes[0].bid == 189.99
    assert data.order_updates[1] == OrderUpdate("o1", "AAPL", "FILLED", 10, 189.99, 43, None)
    assert data.portfolio is not None
    assert data.portfolio.positions[0].market_value == 1900.0


@pytest.mark.parametrize("name", [name for name, case in SERVER.items() if case["type"] == "exchange_data"])
def test_every_frame_of_exchange_data_is_read(name: str) -> None:
    recorded = frame(name)
    data = frames.read_exchange_data(recorded)
    assert (data.epoch, data.sequence, data.snapshot) == (
        recorded["epoch"],
        recorded["sequence"],
        recorded["snapshot"],
    )
    assert [quote.symbol for quote in data.quotes] == [one["symbol"] for one in recorded["data"]["marketData"]]
    assert [update.reason for update in data.order_updates] == [
        one.get("reason") for one in recorded["data"]["orderUpdates"]
    ]


def test_the_others() -> None:
    assert frames.read_simulator_status(frame("simulator_status, failed")) == SimulatorStatus(
        "sim-1", "ERROR", "state_lost", None
    )
    waiting = frame("simulator_status, waiting in the queue")
    assert frames.read_simulator_status(waiting) == SimulatorStatus("sim-1", "STARTING", None, 3)
    assert frames.read_pod_terminating(frame("pod_terminating")).reconnect_after_s == 1.2
    assert frames.read_quality(frame("connection_quality_update, poor")).quality == "POOR"
    assert frames.read_notice(frame("error, an invalid field")).code == "INVALID_REQUEST"


def test_a_frame_without_its_fields_is_no_frame() -> None:
    with pytest.raises(KeyError):
        frames.read_exchange_data({"type": "exchange_data"})
