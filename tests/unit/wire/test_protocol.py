"""The connection's protocol: phases, deadlines, limits. Time is a number here."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from session_service.errors import ErrorCode
from session_service.wire.close_codes import CloseCode
from session_service.wire.messages import Authenticate, Heartbeat, RequestSession
from session_service.wire.protocol import (
    AUTHENTICATION_LIMIT_S,
    Action,
    AnswerPing,
    CloseSocket,
    Deliver,
    Phase,
    ProtocolLimits,
    Refuse,
    SocketProtocol,
    silence_limit_s,
)
from tests.unit.wire.test_client_frames import CLOSE, PING, TEXT, frame

LIMITS = ProtocolLimits(silence_s=silence_limit_s(10.0))
HEARTBEAT = {"type": "heartbeat", "timestamp": 1, "deviceId": "d"}
FOREVER = float("inf")


def text(content: Any) -> bytes:
    return frame(TEXT, msgspec.json.encode(content))


def open_protocol(now_s: float = 0.0, token_deadline_s: float = FOREVER) -> SocketProtocol:
    protocol = SocketProtocol(LIMITS, now_s, authenticated=True)
    assert protocol.opened(token_deadline_s, now_s) == []
    return protocol


def close_of(actions: list[Action]) -> CloseSocket:
    last = actions[-1]
    assert isinstance(last, CloseSocket), last
    return last


def test_an_open_connection_delivers_messages_and_answers_pings() -> None:
    protocol = open_protocol()
    actions = protocol.receive(text(HEARTBEAT) + frame(PING, b"?"), 1.0)
    assert isinstance(actions[0], Deliver)
    assert isinstance(actions[0].message, Heartbeat)
    assert actions[1] == AnswerPing(b"?")


def test_a_message_that_cannot_be_read_is_refused_and_the_connection_stays_open() -> None:
    protocol = open_protocol()
    (action,) = protocol.receive(frame(TEXT, b"nonsense"), 1.0)
    assert isinstance(action, Refuse)
    assert action.refusal.code is ErrorCode.INVALID_MESSAGE
    assert protocol.phase is Phase.OPEN


def test_silence_is_closed_after_three_heartbeats_and_ten_seconds() -> None:
    assert LIMITS.silence_s == 40.0
    protocol = open_protocol()
    protocol.receive(text(HEARTBEAT), 5.0)
    assert protocol.check(44.9) is None
    closing = protocol.check(45.0)
    assert closing is not None
    assert closing.code is CloseCode.SILENT
    assert protocol.check(100.0) is None  # said once


def test_pings_are_no_messages() -> None:
    protocol = open_protocol()
    for second in range(1, 40):
        protocol.receive(frame(PING), float(second))
    closing = protocol.check(40.0)
    assert closing is not None
    assert closing.code is CloseCode.SILENT


def test_the_token_ends_the_connection_unless_it_is_refreshed() -> None:
    protocol = open_protocol(token_deadline_s=10.0)
    protocol.receive(text(HEARTBEAT), 9.0)
    protocol.token_refreshed(20.0, 9.5)
    assert protocol.check(10.0) is None
    protocol.receive(text(HEARTBEAT), 19.0)
    closing = protocol.check(20.0)
    assert closing is not None
    assert closing.code is CloseCode.TOKEN_INVALID


def test_five_seconds_to_authenticate() -> None:
    protocol = SocketProtocol(LIMITS, 100.0, authenticated=False)
    protocol.receive(frame(PING) + frame(TEXT, b"nonsense"), 104.0)  # nothing of this buys time
    assert protocol.check(100.0 + AUTHENTICATION_LIMIT_S - 0.1) is None
    closing = protocol.check(100.0 + AUTHENTICATION_LIMIT_S)
    assert closing is not None
    assert closing.code is CloseCode.AUTHENTICATION_TIMEOUT


def test_first_message_authentication_holds_what_follows_until_connected_is_sent() -> None:
    protocol = SocketProtocol(LIMITS, 0.0, authenticated=False)
    actions = protocol.receive(
        text({"type": "authenticate", "token": "t"}) + text({"type": "request_session", "requestId": "r"}), 1.0
    )
    assert [type(action.message) for action in actions if isinstance(action, Deliver)] == [Authenticate]
    assert protocol.phase is Phase.VERIFYING
    assert protocol.check(AUTHENTICATION_LIMIT_S + 1) is None  # now it is we who take the time
    protocol.authenticated(2.0)
    protocol.receive(text(HEARTBEAT), 2.5)
    held = protocol.opened(FOREVER, 3.0)
    assert [type(action.message) for action in held if isinstance(action, Deliver)] == [RequestSession, Heartbeat]


def test_before_authentication_other_messages_are_refused() -> None:
    protocol = SocketProtocol(LIMITS, 0.0, authenticated=False)
    (action,) = protocol.receive(text(HEARTBEAT), 1.0)
    assert isinstance(action, Refuse)
    assert action.refusal.code is ErrorCode.AUTHENTICATION_FAILED
    assert protocol.phase is Phase.AUTHENTICATING


def test_what_is_held_is_bounded_in_bytes() -> None:
    protocol = SocketProtocol(LIMITS, 0.0, authenticated=True)
    big = {**HEARTBEAT, "padding": "x" * 40_000}
    assert protocol.receive(text(big), 0.1) == []
    assert close_of(protocol.receive(text(big), 0.2)).code is CloseCode.RATE_LIMITED


def test_a_burst_of_forty_and_twenty_a_second_after_it() -> None:
    protocol = open_protocol()
    assert len(protocol.receive(text(HEARTBEAT) * 40, 0.0)) == 40
    assert len(protocol.receive(text(HEARTBEAT) * 20, 1.0)) == 20
    actions = protocol.receive(text(HEARTBEAT) * 2, 1.05)
    assert isinstance(actions[0], Deliver)
    assert close_of(actions).code is CloseCode.RATE_LIMITED


def test_twenty_a_second_is_never_too_much() -> None:
    protocol = open_protocol()
    for number in range(2000):
        assert isinstance(protocol.receive(text(HEARTBEAT), number * 0.05)[-1], Deliver)


def test_pings_are_limited_too() -> None:
    assert close_of(open_protocol().receive(frame(PING) * 41, 0.0)).code is CloseCode.RATE_LIMITED


@pytest.mark.parametrize("code", [b"", b"\x03\xe8", b"\x03\xe9gone", b"\x0f\xa0"])
def test_the_peers_close_is_answered_with_1000(code: bytes) -> None:
    closing = close_of(open_protocol().receive(frame(CLOSE, code), 1.0))
    assert (closing.code, closing.by_peer) == (CloseCode.NORMAL, True)


def test_after_our_close_only_the_peers_close_counts() -> None:
    protocol = open_protocol()
    assert protocol.close(CloseCode.SERVICE_RESTART, "bye").code is CloseCode.SERVICE_RESTART
    assert protocol.receive(text(HEARTBEAT) + frame(PING), 1.0) == []
    assert protocol.check(1e9) is None
    assert close_of(protocol.receive(frame(CLOSE, b"\x03\xf4"), 2.0)).by_peer


def test_nothing_follows_a_violation() -> None:
    protocol = open_protocol()
    actions = protocol.receive(frame(0x2, b"binary") + text(HEARTBEAT), 1.0)
    assert [type(action) for action in actions] == [CloseSocket]
    assert close_of(actions).code is CloseCode.UNSUPPORTED
