"""The AsyncAPI document: the messages of the code and no others, and the golden frames are examples of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from session_service.api.asyncapi import RECEIVED, SENT, build_document, type_of
from session_service.errors import ErrorCode
from session_service.wire.close_codes import CloseCode
from session_service.wire.messages import CLIENT_MESSAGE_TYPES, ServerMessage
from tests.support.golden_frames import Case, cases

DOCUMENT: dict[str, Any] = json.loads(json.dumps(build_document()))
SERVER_MESSAGE_TYPES = {one.TYPE for one in ServerMessage.__subclasses__()} | {"exchange_data"}
PACKAGES = Path(__file__).parents[3] / "browser" / "node_modules"
SPECIFICATION = PACKAGES / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
VALID = cases("client_messages") | cases("server_messages")
REFUSED = cases("refused_messages")
# What one field alone does not show.
BEYOND_SCHEMAS = {
    "start_simulator, a symbol twice",
    "submit_order, a limit order without a price",
    "submit_order, a market order with a price",
}


def is_about_a_field(case: Case) -> bool:
    expect = case["expect"]
    code: str = expect.get("code") or expect["errorCode"]
    return code == ErrorCode.INVALID_REQUEST


def validator(message_type: str) -> Draft7Validator:
    """AsyncAPI's schemas are those of JSON Schema's draft 7 (AsyncAPI 3.0, Schema Object)."""
    payload = DOCUMENT["components"]["messages"][message_type]["payload"]
    return Draft7Validator({**payload, "components": DOCUMENT["components"]})


def resolve(reference: dict[str, str]) -> Any:
    """What a reference within the document points at; its own references are followed too."""
    found: Any = DOCUMENT
    for name in reference["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return resolve(found) if "$ref" in found else found


def names(references: list[dict[str, str]]) -> set[str]:
    return {resolve(one)["name"] for one in references}


@pytest.mark.skipif(not SPECIFICATION.exists(), reason="the specification's schema is not installed: make browser")
def test_it_is_valid() -> None:
    specification = json.loads(SPECIFICATION.read_text(encoding="utf-8"))
    errors = [f"{error.json_path}: {error.message}" for error in Draft7Validator(specification).iter_errors(DOCUMENT)]
    assert errors == []


def test_its_messages_are_those_of_the_code() -> None:
    expected = CLIENT_MESSAGE_TYPES | SERVER_MESSAGE_TYPES
    assert set(DOCUMENT["components"]["messages"]) == expected
    channel = DOCUMENT["channels"]["session"]["messages"]
    assert {name: resolve(reference)["name"] for name, reference in channel.items()} == {
        name: name for name in expected
    }


def test_clients_messages_are_received_and_the_servers_sent() -> None:
    received: set[str] = set()
    sent: set[str] = set()
    for operation in DOCUMENT["operations"].values():
        (received if operation["action"] == "receive" else sent).update(names(operation["messages"]))
        if "reply" in operation:
            sent |= names(operation["reply"]["messages"])
    assert received == CLIENT_MESSAGE_TYPES
    assert sent == SERVER_MESSAGE_TYPES
    assert len(DOCUMENT["operations"]) == len(RECEIVED) + len(SENT)


def test_an_answer_can_be_found_by_its_request() -> None:
    for row in RECEIVED:
        asks, answers = (DOCUMENT["components"]["messages"][type_of(one)] for one in (row.message, row.reply))
        assert ("correlationId" in asks) is ("correlationId" in answers), asks["name"]


def test_every_payload_is_a_schema() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
        if "properties" in schema:
            assert set(schema.get("required", ())) <= set(schema["properties"])


@pytest.mark.parametrize("name", VALID)
def test_golden_frames_are_valid(name: str) -> None:
    case = VALID[name]
    assert [error.message for error in validator(case["type"]).iter_errors(case["frame"])] == []


@pytest.mark.parametrize("name", [name for name, case in REFUSED.items() if is_about_a_field(case)])
def test_what_is_refused_for_a_field_is_invalid(name: str) -> None:
    case = REFUSED[name]
    frame = case["frame"] if "frame" in case else json.loads(case["text"])
    assert validator(case["type"]).is_valid(frame) is (name in BEYOND_SCHEMAS)


def test_it_tells_every_close_code() -> None:
    listed = {one["code"]: one["mayReconnect"] for one in DOCUMENT["channels"]["session"]["x-close-codes"]}
    recorded = {case["code"]: case["mayReconnect"] for case in cases("close_codes").values()}
    assert set(listed) == set(CloseCode)
    assert listed == {code: recorded[code] for code in listed}


def test_it_tells_how_to_connect() -> None:
    binding = DOCUMENT["channels"]["session"]["bindings"]["ws"]
    assert binding["query"]["required"] == ["deviceId"]
    assert set(binding["query"]["properties"]) == {
        "deviceId",
        "sessionId",
        "clientId",
        "attempt",
        "epoch",
        "sequence",
        "symbols",
    }
    assert DOCUMENT["channels"]["session"]["address"] == "/ws"
    assert DOCUMENT["channels"]["session"]["x-limits"] == {
        "maxMessageBytes": 65536,
        "messagesPerSecond": 20,
        "messageBurst": 40,
        "connectionsPerSession": 8,
    }
