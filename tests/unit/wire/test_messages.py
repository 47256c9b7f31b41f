"""Reading client messages, and the reason for each refusal."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.errors import ErrorCode
from session_service.wire.messages import (
    ANSWERED_BY_RESULT,
    CLIENT_MESSAGE_TYPES,
    Authenticate,
    Heartbeat,
    StartSimulator,
    SubmitOrder,
    UnreadableMessage,
    decode,
)


def refused(payload: bytes) -> UnreadableMessage:
    message = decode(payload)
    assert isinstance(message, UnreadableMessage), message
    return message


def test_the_documented_types_are_all_there() -> None:
    assert {
        "heartbeat", "reconnect", "start_simulator", "stop_simulator", "request_session", "request_full_refresh",
        "subscribe", "submit_order", "cancel_order", "connection_quality", "authenticate",
    } == CLIENT_MESSAGE_TYPES  # fmt: skip
    assert ANSWERED_BY_RESULT < CLIENT_MESSAGE_TYPES


def test_camel_case_unknown_fields_and_any_order_of_fields() -> None:
    message = decode(b'{"deviceId":"d","extra":{"deep":[1]},"timestamp":17,"type":"heartbeat"}')
    assert message == Heartbeat(timestamp=17, device_id="d")


def test_start_needs_no_more_than_a_request_id() -> None:
    assert decode(b'{"type":"start_simulator","requestId":"r"}') == StartSimulator(request_id="r")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("quantity", 1.5, "quantity: expected a whole number"),
        ("quantity", 0, "quantity: expected a whole number from 1 to 2147483647"),
        ("quantity", 2**31, "quantity: expected a whole number from 1 to 2147483647"),
        ("symbol", "aapl", "symbol: expected 1 to 12 of A-Z 0-9 . - and a letter first"),
    ],
)
def test_a_wrong_order_is_explained_in_words(field: str, value: object, message: str) -> None:
    order = {"requestId": "r", "symbol": "AAPL", "side": "BUY", "quantity": 1, "orderType": "MARKET", field: value}
    refused = decode(msgspec.json.encode({"type": "submit_order", **order}))
    assert isinstance(refused, UnreadableMessage)
    assert refused.message == message


def test_a_quantity_may_be_written_as_10_or_10_0() -> None:
    for quantity in (b"10", b"10.0", b"1e1"):
        message = decode(
            b'{"type":"submit_order","requestId":"r","symbol":"AAPL","side":"SELL","orderType":"MARKET","quantity":'
            + quantity
            + b"}"
        )
        assert isinstance(message, SubmitOrder)
        assert message.quantity == 10


@pytest.mark.parametrize(
    ("payload", "code", "field", "request_id"),
    [
        (b"", ErrorCode.INVALID_MESSAGE, None, None),
        (b"{", ErrorCode.INVALID_MESSAGE, None, None),
        (b"[" * 100_000, ErrorCode.INVALID_MESSAGE, None, None),
        (b"null", ErrorCode.INVALID_MESSAGE, None, None),
        (b"[{}]", ErrorCode.INVALID_MESSAGE, None, None),
        (b'{"a":NaN}', ErrorCode.INVALID_MESSAGE, None, None),
        (b"{}", ErrorCode.INVALID_MESSAGE, "type", None),
        (b'{"type":null,"requestId":"r"}', ErrorCode.INVALID_MESSAGE, "type", "r"),
        (b'{"type":"connected","requestId":"r"}', ErrorCode.UNKNOWN_MESSAGE_TYPE, "type", "r"),
        (b'{"type":"HEARTBEAT"}', ErrorCode.UNKNOWN_MESSAGE_TYPE, "type", None),
        (b'{"type":"heartbeat","deviceId":"d"}', ErrorCode.INVALID_REQUEST, "timestamp", None),
        (b'{"type":"heartbeat","timestamp":1,"deviceId":""}', ErrorCode.INVALID_REQUEST, "deviceId", None),
        (b'{"type":"heartbeat","timestamp":1,"deviceId":"a\\u0000"}', ErrorCode.INVALID_REQUEST, "deviceId", None),
        (b'{"type":"stop_simulator"}', ErrorCode.INVALID_REQUEST, "requestId", None),
        (b'{"type":"stop_simulator","requestId":"' + b"x" * 65 + b'"}', ErrorCode.INVALID_REQUEST, "requestId", None),
        (b'{"type":"subscribe","requestId":"r","symbols":"AAPL"}', ErrorCode.INVALID_REQUEST, "symbols", "r"),
        (b'{"type":"subscribe","requestId":"r","symbols":[1]}', ErrorCode.INVALID_REQUEST, "symbols", "r"),
        (
            b'{"type":"start_simulator","requestId":"r","initialCash":-1}',
            ErrorCode.INVALID_REQUEST,
            "initialCash",
            "r",
        ),
        (
            b'{"type":"connection_quality","latencyMs":-1,"missedHeartbeats":0}',
            ErrorCode.INVALID_REQUEST,
            "latencyMs",
            None,
        ),
        (b'{"type":"reconnect","requestId":"r","deviceId":"d","epoch":-1}', ErrorCode.INVALID_REQUEST, "epoch", "r"),
        (
            b'{"type":"reconnect","requestId":"r","deviceId":"d","sequence":9007199254740992}',
            ErrorCode.INVALID_REQUEST,
            "sequence",
            "r",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(
    payload: bytes, code: ErrorCode, field: str | None, request_id: str | None
) -> None:
    refusal = refused(payload)
    assert (refusal.code, refusal.field, refusal.request_id) == (code, field, request_id)
    if code is ErrorCode.INVALID_REQUEST:
        assert refusal.message.startswith(f"{field}: ")


def test_a_token_shows_neither_in_a_refusal_nor_in_a_repr() -> None:
    secret = "s" * 9000
    assert secret not in repr(refused(msgspec.json.encode({"type": "authenticate", "token": secret})))
    message = decode(b'{"type":"authenticate","token":"canary"}')
    assert isinstance(message, Authenticate)
    assert "canary" not in repr(message)


def test_a_long_wrong_value_is_not_echoed_whole() -> None:
    order = {"type": "submit_order", "requestId": "r", "symbol": "A", "quantity": 1, "orderType": "MARKET"}
    refusal = refused(msgspec.json.encode({**order, "side": "x" * 60_000}))
    assert len(refusal.message) < 300


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(
    ["requestId", "timestamp", "deviceId", "symbols", "symbol", "side", "quantity", "token", "epoch", "latencyMs"]
)


@given(st.sampled_from(sorted(CLIENT_MESSAGE_TYPES)), st.dictionaries(_fields, _json, max_size=6))
def test_any_fields_give_a_message_or_a_refusal_with_a_code(message_type: str, fields: dict[str, object]) -> None:
    message = decode(msgspec.json.encode({"type": message_type, **fields}))
    if isinstance(message, UnreadableMessage):
        assert message.code is ErrorCode.INVALID_REQUEST
        assert message.type == message_type


@given(st.text())
def test_any_text_is_refused_or_read_and_never_raises(text: str) -> None:
    decode(text.encode("utf-8", "surrogatepass"))
