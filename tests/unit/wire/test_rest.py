"""Bodies of the REST API: what is accepted, which field is named, and what answers look like."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.session import Session, SessionStatus
from session_service.domain.simulator import OrderState, OrderStatus, OrderType, Simulator, SimulatorStatus
from session_service.domain.simulator import SimulatorTarget as Target
from session_service.errors import InvalidRequestError
from session_service.wire.fields import is_device_id, is_object_id
from session_service.wire.rest import (
    CreateSessionRequest,
    EndSessionsRequest,
    ReconnectRequest,
    StartSimulatorRequest,
    SubmitOrderRequest,
    decode_body,
    order_answer,
    session_view,
    simulator_view,
)

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
CREATE = msgspec.json.Decoder(CreateSessionRequest)
RECONNECT = msgspec.json.Decoder(ReconnectRequest)
START = msgspec.json.Decoder(StartSimulatorRequest)
ORDER = msgspec.json.Decoder(SubmitOrderRequest)
END = msgspec.json.Decoder(EndSessionsRequest)

LIMIT_ORDER = {
    "symbol": "AAPL",
    "side": "BUY",
    "quantity": 10,
    "orderType": "LIMIT",
    "price": 101.5,
    "requestId": "r-1",
}
MARKET_ORDER = {**LIMIT_ORDER, "orderType": "MARKET", "price": None}


def refused(decoder: msgspec.json.Decoder[Any], body: object) -> str | None:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    with pytest.raises(InvalidRequestError) as caught:
        decode_body(decoder, raw)
    return caught.value.field


@pytest.mark.parametrize("device_id", ["d", "x" * 255, "Büro-PC", "a b", "😀", '"; DROP TABLE'])
def test_device_ids(device_id: str) -> None:
    assert decode_body(CREATE, msgspec.json.encode({"deviceId": device_id})).device_id == device_id
    assert is_device_id(device_id)


@pytest.mark.parametrize("device_id", ["", "x" * 256, "a\x00b", "a\n", "\x7f", "\x85", None, 5, True, ["d"], {}])
def test_no_device_ids(device_id: object) -> None:
    assert refused(CREATE, {"deviceId": device_id}) == "deviceId"
    if isinstance(device_id, str):
        assert not is_device_id(device_id)


def test_a_lone_surrogate_is_no_device_id() -> None:
    assert not is_device_id("a\ud800")
    assert not is_object_id("\udcff")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"deviceId": "d"}x',
        b"nonsense",
        b"\xff\xfe",
        b'{"deviceId": "\xff"}',
        b'{"deviceId": "\\ud800"}',
        b'{"deviceId": "\\ud800abcdef"}',
        b'{"deviceId": "\\udc00"}',
        b'{"x": NaN}',
        b"[]",
        b"null",
        b'"deviceId"',
        b"5",
        b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"x":' * 10_000 + b"1" + b"}" * 10_000,
    ],
)
def test_what_is_no_json_object(raw: bytes) -> None:
    assert refused(CREATE, raw) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        assert is_device_id(decode_body(CREATE, raw).device_id)


def test_missing_fields_are_named() -> None:
    assert refused(CREATE, {}) == "deviceId"
    assert refused(RECONNECT, {"deviceId": "d"}) == "attempt"
    assert refused(ORDER, {**LIMIT_ORDER, "requestId": ""}) == "requestId"


def test_unknown_fields_are_ignored_and_the_last_of_two_counts() -> None:
    assert decode_body(CREATE, b'{"deviceId":"a","other":{"x":[1]},"deviceId":"b"}').device_id == "b"


def test_messages_are_for_people() -> None:
    with pytest.raises(InvalidRequestError, match=r"^deviceId: Expected text without control characters$"):
        decode_body(CREATE, b'{"deviceId":"a\\u0000"}')
    with pytest.raises(InvalidRequestError, match=r"^quantity: Expected a whole number$"):
        decode_body(ORDER, msgspec.json.encode({**LIMIT_ORDER, "quantity": 1.5}))


@pytest.mark.parametrize("attempt", [-1, 1.5, "1", None, 2**31, True])
def test_attempts(attempt: object) -> None:
    assert refused(RECONNECT, {"deviceId": "d", "attempt": attempt}) == "attempt"


def test_ending_names_a_device_or_none() -> None:
    assert decode_body(END, b"{}").device_id is None
    assert decode_body(END, b'{"deviceId":""}').device_id == ""
    assert refused(END, {"deviceId": 5}) == "deviceId"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("initialSymbols", []),
        ("initialSymbols", ["aapl"]),
        ("initialSymbols", ["AAPL\n"]),
        ("initialSymbols", ["A" * 13]),
        ("initialSymbols", ["1A"]),
        ("initialSymbols", [f"S{n}" for n in range(101)]),
        ("initialSymbols", "AAPL"),
        ("initialSymbols", [5]),
        ("initialCash", 0),
        ("initialCash", -1),
        ("initialCash", 1.1e12),
        ("initialCash", "100"),
        ("sessionId", 5),
    ],
)
def test_a_simulator_that_cannot_be(field: str, value: object) -> None:
    named = refused(START, {field: value})
    assert named is not None
    assert named.partition("[")[0] == field


def test_infinite_cash_is_refused() -> None:
    assert refused(START, b'{"initialCash": 1e999}') == "initialCash"


def test_symbols_are_named_once() -> None:
    with pytest.raises(InvalidRequestError, match="initialSymbols"):
        decode_body(START, b'{"initialSymbols":["A","B","A"]}').check()
    decode_body(START, b'{"initialSymbols":["A","BRK.B","X-1"],"initialCash":1e12}').check()


@pytest.mark.parametrize("quantity", [1, 10, 10.0, 2**31 - 1, 1e3])
def test_quantities(quantity: float) -> None:
    order = decode_body(ORDER, msgspec.json.encode({**LIMIT_ORDER, "quantity": quantity})).to_order()
    assert order.quantity == quantity
    assert type(order.quantity) is int


@pytest.mark.parametrize("quantity", [0, -1, 0.5, 10.5, 2**31, 1e300, "10", None, True])
def test_no_quantities(quantity: object) -> None:
    assert refused(ORDER, {**LIMIT_ORDER, "quantity": quantity}) == "quantity"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("symbol", ""),
        ("symbol", "aapl"),
        ("side", "buy"),
        ("side", "HOLD"),
        ("orderType", "STOP"),
        ("price", 0),
        ("price", -1.0),
        ("price", "5"),
        ("requestId", "x" * 65),
        ("requestId", "a\x00"),
        ("requestId", 5),
    ],
)
def test_orders_that_cannot_be(field: str, value: object) -> None:
    assert refused(ORDER, {**LIMIT_ORDER, field: value}) == field


def test_price_and_type_agree() -> None:
    limit = decode_body(ORDER, msgspec.json.encode(LIMIT_ORDER)).to_order()
    market = decode_body(ORDER, msgspec.json.encode(MARKET_ORDER)).to_order()
    assert (limit.order_type, limit.price) == (OrderType.LIMIT, 101.5)
    assert (market.order_type, market.price) == (OrderType.MARKET, None)
    for wrong in ({**LIMIT_ORDER, "price": None}, {**MARKET_ORDER, "price": 5.0}):
        with pytest.raises(InvalidRequestError, match=r"^price: "):
            decode_body(ORDER, msgspec.json.encode(wrong)).to_order()


def session(**metadata: object) -> Session:
    return Session(
        session_id="s",
        user_id="u",
        status=SessionStatus.ACTIVE,
        created_at=NOW,
        last_active=NOW.astimezone(timezone(timedelta(hours=2))),
        expires_at=NOW + timedelta(hours=1, microseconds=5000),
        device_id="d",
        metadata=metadata,
    )


def test_the_session_object_flattens_metadata_beside_its_columns() -> None:
    forged = session(status="EVIL", user_id="other", token="secret", pod_name="p", anything={"a": [1]})
    view = msgspec.json.decode(msgspec.json.encode(session_view(forged, simulator_token=None, shows_simulator=False)))
    assert view == {
        "session_id": "s",
        "user_id": "u",
        "status": "ACTIVE",
        "created_at": "2026-05-01T12:00:00Z",
        "last_active": "2026-05-01T12:00:00Z",
        "expires_at": "2026-05-01T13:00:00.005000Z",
        "device_id": "d",
        "pod_name": "p",
        "anything": {"a": [1]},
    }


def test_the_simulators_place_is_shown_to_those_who_may_see_it() -> None:
    with_simulator = session(simulator_endpoint="host:1", simulator_token="forged", simulator_id="i")
    hidden = session_view(with_simulator, simulator_token=None, shows_simulator=False)
    shown = session_view(with_simulator, simulator_token="real", shows_simulator=True)
    assert not {"simulator_endpoint", "simulator_token"} & hidden.keys()
    assert (shown["simulator_endpoint"], shown["simulator_token"]) == ("host:1", "real")


def simulator(status: SimulatorStatus) -> Simulator:
    return Simulator(
        simulator_id="i",
        session_id="s",
        user_id="u",
        status=status,
        target=Target.RUNNING,
        endpoint="host:1",
        created_at=NOW,
        last_active=NOW + timedelta(seconds=30),
        initial_symbols=("AAPL",),
        initial_cash=5.0,
        reason=None,
        workload_uid="w",
    )


@pytest.mark.parametrize(
    ("status", "after_s", "uptime_s"),
    [
        (SimulatorStatus.RUNNING, 90.9, 90),
        (SimulatorStatus.STOPPED, 90.9, 30),
        (SimulatorStatus.ERROR, 90.9, 30),
        (SimulatorStatus.CREATING, -0.5, 0),  # this clock is behind the database's
    ],
)
def test_uptime(status: SimulatorStatus, after_s: float, uptime_s: int) -> None:
    assert simulator_view(simulator(status), NOW + timedelta(seconds=after_s)).uptime_seconds == uptime_s


def test_the_simulator_object() -> None:
    view = msgspec.to_builtins(simulator_view(simulator(SimulatorStatus.CREATING), NOW))
    assert view == {
        "simulatorId": "i",
        "sessionId": "s",
        "status": "CREATING",
        "reason": None,
        "createdAt": "2026-05-01T12:00:00Z",
        "lastActive": "2026-05-01T12:00:30Z",
        "initialSymbols": ("AAPL",),
        "initialCash": 5.0,
        "uptimeSeconds": 0,
    }


def test_an_order_answer() -> None:
    filled = order_answer(OrderState("o", OrderStatus.FILLED, 10, 101.25))
    assert msgspec.to_builtins(filled) == {
        "success": True,
        "orderId": "o",
        "status": "FILLED",
        "filledQuantity": 10,
        "averagePrice": 101.25,
    }


@pytest.mark.parametrize(("reason", "told"), [("no cash", "no cash"), (None, "The exchange rejected the order")])
def test_a_rejected_order_says_why(reason: str | None, told: str) -> None:
    rejected = order_answer(OrderState("o", OrderStatus.REJECTED, 0, 0.0, reason=reason))
    assert msgspec.to_builtins(rejected) == {
        "success": False,
        "orderId": "o",
        "status": "REJECTED",
        "filledQuantity": 0,
        "averagePrice": 0.0,
        "code": "ORDER_REJECTED",
        "reason": told,
        "error": told,
        "errorMessage": told,
    }
