"""The life of a connection, end to end on the real service."""

from __future__ import annotations

from tests.support.service import Service
from tests.support.websocket_client import connect


async def test_connected_is_the_first_frame_and_says_everything(service: Service) -> None:
    async with connect(service, clientId="tab-1", attempt=1) as client:
        frame = client.frames[0]
    assert frame["clientId"] == "tab-1"
    assert frame["deviceId"] == "device-1"
    assert frame["isNew"] is True
    assert frame["podName"] == "pod-under-test"
    assert (frame["epoch"], frame["sequence"], frame["resumed"]) == (None, None, False)
    assert frame["simulatorStatus"] == "NONE"
    assert frame["heartbeatIntervalMs"] == 10_000
    assert frame["expiresAt"].endswith("Z")
    assert frame["limits"] == {
        "maxMessageBytes": 65536,
        "messagesPerSecond": 20,
        "messageBurst": 40,
        "connectionsPerSession": 8,
    }
    assert isinstance(frame["timestamp"], int)


async def test_a_heartbeat_is_acknowledged_with_the_clients_own_timestamp(service: Service) -> None:
    async with connect(service) as client:
        await client.send({"type": "heartbeat", "timestamp": 1234.5, "deviceId": "device-1", "unknown": {"a": []}})
        frame = await client.receive()
    assert frame.pop("timestamp") > 0
    assert frame == {
        "type": "heartbeat_ack",
        "clientTimestamp": 1234.5,
        "deviceId": "device-1",
        "deviceIdValid": True,
        "sessionStatus": "valid",
        "simulatorStatus": "NONE",
        "connectionQuality": "GOOD",
        "reconnectRecommended": False,
    }
