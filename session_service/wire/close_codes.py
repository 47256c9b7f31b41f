"""WebSocket close codes: the only place that knows them (docs/protocol.md#close-codes; RFC 6455 §7.4).

4000–4499 tell a client that it may reconnect, 4500–4999 that it must not. A close without a code of ours (1006 at the
client) is a lost connection: it may reconnect.
"""

from __future__ import annotations

from enum import IntEnum

from session_service.errors import (
    AuthenticationError,
    ConnectionReplacedError,
    SessionExpiredError,
    SessionNotFoundError,
    SessionServiceError,
    UnavailableError,
)


class CloseCode(IntEnum):
    NORMAL = 1000  # answer to the client's own close; the old socket of a client that has moved during a drain
    PROTOCOL_ERROR = 1002  # frames that RFC 6455 forbids: unmasked, reserved bits, stray continuations
    INVALID_TEXT = 1007  # a text message that is not UTF-8
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012  # the pod goes: reconnect
    TRY_AGAIN_LATER = 1013  # a dependency was away while a first-message authentication was carried out
    TOO_SLOW = 4008
    SILENT = 4009  # no message for 3 × heartbeat interval + 10 s
    RATE_LIMITED = 4029
    AUTHENTICATION_TIMEOUT = 4408
    TOKEN_INVALID = 4501
    SESSION_GONE = 4503  # ended, expired, or not there
    REPLACED = 4504  # a newer attempt of the same client id, or the ninth connection evicted the most silent
    UNSUPPORTED = 4506  # binary frames, and refused requests of clients that cannot read an HTTP answer


_PEER_MAY_SEND = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def is_sendable(code: int) -> bool:
    """May a peer put this code into a close frame (RFC 6455 §7.4.1–2)?"""
    return code in _PEER_MAY_SEND or 3000 <= code <= 4999


def may_reconnect(code: int | None) -> bool:
    """Whether a client may come back after this code; None: the connection was lost without one."""
    return code is None or not 4500 <= code <= 4999


def refusal_code(error: SessionServiceError) -> CloseCode:
    """The close code that stands for an error which ends a connection's set-up after the upgrade."""
    if isinstance(error, AuthenticationError):
        return CloseCode.TOKEN_INVALID
    if isinstance(error, SessionNotFoundError | SessionExpiredError):
        return CloseCode.SESSION_GONE
    if isinstance(error, ConnectionReplacedError):
        return CloseCode.REPLACED
    if isinstance(error, UnavailableError):
        return CloseCode.TRY_AGAIN_LATER
    return CloseCode.UNSUPPORTED
