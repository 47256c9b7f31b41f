"""The bytes of frames: RFC 6455's lengths, and exchange_data as clients read it."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from session_service.domain.market import Holding, MarketUpdate, OrderUpdate, Portfolio, Quote
from session_service.wire.exchange_frames import exchange_frame, joined
from session_service.wire.frames import text_frame


def parsed(data: bytes) -> list[bytes]:
    """The payloads, as another implementation of the RFC reads them on the client's side."""
    protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
    protocol.receive_data(data)
    frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
    assert all(frame.opcode is Opcode.TEXT and frame.fin for frame in frames)
    return [bytes(frame.data) for frame in frames]


@pytest.mark.parametrize("size_bytes", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_every_length_is_read_back_by_another_implementation(size_bytes: int) -> None:
    payload = b"x" * size_bytes
    assert parsed(text_frame(payload)) == [payload]
    assert len(text_frame(payload)) == size_bytes + (2 if size_bytes < 126 else 4 if size_bytes < 65_536 else 10)


def some_update(sequence: int = 9) -> MarketUpdate:
    return MarketUpdate(
        2**53 - 1,
        sequence,
        sequence,
        False,
        1_700_000_000_000,
        (Quote("AAPL", 1.5, 1.75, 100, 200, 1.6, 7),),
        (
            OrderUpdate("o1", "AAPL", "FILLED", 3, 1.7, sequence),
            OrderUpdate("o2", "AAPL", "REJECTED", 0, 0.0, sequence, "no cash"),
        ),
        Portfolio((Holding("AAPL", 3, 1.7, 4.8),), 10.5, 15.3),
    )


def test_exchange_data_has_the_contracts_fields() -> None:
    (payload,) = parsed(exchange_frame(some_update(), 1_700_000_000_123).websocket)
    assert json.loads(payload) == {
        "type": "exchange_data",
        "timestamp": 1_700_000_000_123,
        "epoch": 2**53 - 1,
        "fromSequence": 9,
        "sequence": 9,
        "snapshot": False,
        "data": {
            "timestamp": 1_700_000_000_000,
            "marketData": [
                {
                    "symbol": "AAPL",
                    "bid": 1.5,
                    "ask": 1.75,
                    "bidSize": 100,
                    "askSize": 200,
                    "lastPrice": 1.6,
                    "lastSize": 7,
                }
            ],
            "orderUpdates": [
                {
                    "orderId": "o1",
                    "symbol": "AAPL",
                    "status": "FILLED",
                    "filledQuantity": 3,
                    "averagePrice": 1.7,
                    "sequence": 9,
                },
                {
                    "orderId": "o2",
                    "symbol": "AAPL",
                    "status": "REJECTED",
                    "filledQuantity": 0,
                    "averagePrice": 0.0,
                    "sequence": 9,
                    "reason": "no cash",
                },
            ],
            "portfolio": {
                "positions": [{"symbol": "AAPL", "quantity": 3, "averageCost": 1.7, "marketValue": 4.8}],
                "cashBalance": 10.5,
                "totalValue": 15.3,
            },
        },
    }


def test_an_update_without_anything_has_empty_lists_and_no_portfolio() -> None:
    empty = MarketUpdate(1, 4, 6, False, 5, (), (), None)
    (payload,) = parsed(exchange_frame(empty, 6).websocket)
    assert json.loads(payload)["data"] == {"timestamp": 5, "marketData": [], "orderUpdates": [], "portfolio": None}


def test_the_event_stream_says_the_same_and_names_the_position() -> None:
    frame = exchange_frame(some_update(), 5)
    event, identity, data, end, rest = frame.event_stream.split(b"\n")
    assert (event, identity) == (b"event: exchange_data", b"id: 9007199254740991:9")
    assert [data.removeprefix(b"data: ")] == parsed(frame.websocket)
    assert (end, rest) == (b"", b"")


def test_joined_frames_are_the_same_frames_in_one_write() -> None:
    frames = [exchange_frame(some_update(sequence), 5) for sequence in (9, 10, 11)]
    together = joined(frames)
    assert parsed(together.websocket) == [parsed(frame.websocket)[0] for frame in frames]
    assert together.event_stream == b"".join(frame.event_stream for frame in frames)
    assert (together.from_sequence, together.sequence, together.messages) == (9, 11, 3)
    assert joined(frames[:1]) is frames[0]
