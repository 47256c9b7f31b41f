"""The golden frames, both ways: what the service sends is exactly what they say, what clients send is read so."""

from __future__ import annotations

import base64
import json
from itertools import islice
from typing import Any

import msgspec
import pytest
from session_service_client.events import Position
from session_service_client.sequence import SequenceChecker

from session_service.domain.market import MarketUpdate
from session_service.websocket.emitters import Outgoing
from session_service.wire.close_codes import CloseCode
from session_service.wire.exchange_frames import ExchangeFrame, exchange_frame
from session_service.wire.messages import CLIENT_MESSAGE_TYPES, ServerMessage, UnreadableMessage, decode
from tests.support.golden_frames import Case, cases, payload
from tests.support.service import Service
from tests.support.websocket_client import connect, raw_connect

CLIENT = cases("client_messages")
REFUSED = cases("refused_messages")
VIOLATIONS = cases("protocol_violations")
SERVER = cases("server_messages")
CLOSE_CODES = cases("close_codes")
SEQUENCES = cases("sequences")
EVENTS = cases("event_stream")

SERVER_TYPES = {one.TYPE: one for one in ServerMessage.__subclasses__()}
WORDS = {"error": "message", "result": "error"}  # the field for people, which a frame's contract does not hold
MESSAGES_PER_SOCKET = 30  # below the burst of the rate limit


def encoded(frame: dict[str, Any]) -> Outgoing | ExchangeFrame:
    """What the service makes of the same content. A field that it does not know is lost on the way."""
    if frame["type"] != "exchange_data":
        return Outgoing(msgspec.convert(frame, SERVER_TYPES[frame["type"]]))
    data = frame["data"]
    update = {
        "epoch": frame["epoch"],
        "from_sequence": frame["fromSequence"],
        "sequence": frame["sequence"],
        "snapshot": frame["snapshot"],
        "timestamp_ms": data["timestamp"],
        "quotes": data["marketData"],
        "order_updates": data["orderUpdates"],
        "portfolio": data["portfolio"],
    }
    return exchange_frame(msgspec.convert(update, MarketUpdate), frame["timestamp"])


def sent(outgoing: Outgoing | ExchangeFrame) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(outgoing.event_stream.split(b"data: ", 1)[1])
    return frame


def test_there_is_a_case_for_every_type() -> None:
    assert {case["type"] for case in CLIENT.values()} == CLIENT_MESSAGE_TYPES
    assert {case["type"] for case in REFUSED.values()} >= CLIENT_MESSAGE_TYPES
    assert {case["type"] for case in SERVER.values()} == set(SERVER_TYPES) | {"exchange_data"}
    for case in (*CLIENT.values(), *SERVER.values()):
        assert case["frame"]["type"] == case["type"]


def test_there_is_a_case_for_every_close_code() -> None:
    assert {case["code"] for case in CLOSE_CODES.values() if case.get("sent", True)} == set(CloseCode)
    for case in CLOSE_CODES.values():
        assert case["mayReconnect"] is not (4500 <= case["code"] < 5000), case["name"]


@pytest.mark.parametrize("name", SERVER)
def test_server_frames_are_as_recorded(name: str) -> None:
    frame = SERVER[name]["frame"]
    assert sent(encoded(frame)) == frame


@pytest.mark.parametrize("name", EVENTS)
def test_events_are_as_recorded(name: str) -> None:
    assert encoded(EVENTS[name]["frame"]).event_stream.decode() == EVENTS[name]["text"]


@pytest.mark.parametrize("name", CLIENT)
def test_client_messages_are_read_whole(name: str) -> None:
    case = CLIENT[name]
    message = decode(payload(case).encode())
    assert not isinstance(message, UnreadableMessage), message
    read = json.loads(msgspec.json.encode(message))
    known = {field: value for field, value in case["frame"].items() if field not in case.get("ignored", ())}
    assert read == {**dict.fromkeys(read), **known}


async def test_a_pod_answers_what_it_cannot_read_and_the_socket_stays(service: Service) -> None:
    wrong: dict[str, Any] = {}
    waiting = iter(REFUSED.values())
    while some := list(islice(waiting, MESSAGES_PER_SOCKET)):
        async with connect(service) as client:
            for case in some:
                await client.socket.send_str(payload(case))
                answer = await client.receive()
                words = answer.pop(WORDS[answer["type"]])
                if not words or not answer.pop("timestamp") or answer != case["expect"]:
                    wrong[case["name"]] = answer
            assert (await client.ask("request_session"))["type"] == "session_info"
    assert wrong == {}


def wire_payload(case: Case) -> bytes:
    wire = case["wire"]
    return b" " * wire["spaces"] if "spaces" in wire else base64.b64decode(wire["base64"])


async def test_a_pod_closes_what_breaks_the_protocol(service: Service) -> None:
    codes = {}
    for name, case in VIOLATIONS.items():
        async with raw_connect(service) as raw:
            await raw.send(raw.frame(case["wire"]["opcode"], wire_payload(case)))
            codes[name] = await raw.close_code()
    assert codes == {name: case["expect"]["close"] for name, case in VIOLATIONS.items()}


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_python_client_gives_the_verdicts_on_sequences(name: str) -> None:
    begins_after = SEQUENCES[name]["beginsAfter"]
    checker = SequenceChecker(begins_after and Position(begins_after["epoch"], begins_after["sequence"]))
    for frame in SEQUENCES[name]["frames"]:
        violation = checker.check(
            frame["epoch"], frame["fromSequence"], frame["sequence"], snapshot=frame["snapshot"]
        )
        passed = "ignored" if checker.broken else "applied"
        assert (passed if violation is None else violation.kind.lower()) == frame["expect"], frame
