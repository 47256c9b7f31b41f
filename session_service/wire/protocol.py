"""A WebSocket connection's protocol as a machine: bytes and the time in, actions out (docs/protocol.md).

No I/O, no clock, no task. The connection carries the actions out; the sweep asks ``check`` once ``deadline_s`` has
passed. Times are seconds of one monotonic clock.

    AUTHENTICATING ──authenticate──▶ VERIFYING ──authenticated()──▶ OPENING ──opened()──▶ OPEN
          │ 5 s: 4408                                 ▲ (a request that brought its token starts here)
          └──────────── any phase: violation, deadline, peer's close, close() ──────────▶ CLOSING
"""

from __future__ import annotations

from enum import Enum

import msgspec

from session_service.errors import ErrorCode
from session_service.wire.client_frames import (
    ClientFrameReader,
    PeerClose,
    Ping,
    Pong,
    TextMessage,
    Violation,
)
from session_service.wire.close_codes import CloseCode
from session_service.wire.messages import (
    Authenticate,
    ClientMessage,
    UnreadableMessage,
    decode,
)
from session_service.wire.rate_limit import TokenBucket

AUTHENTICATION_LIMIT_S = 5.0


class ProtocolLimits(msgspec.Struct, frozen=True):
    """``silence_s``: how long a client may send no message before it counts as gone."""

    silence_s: float
    max_message_bytes: int = 64 * 1024
    messages_per_s: float = 20.0
    message_burst: int = 40


def silence_limit_s(heartbeat_interval_s: float) -> float:
    return 3 * heartbeat_interval_s + 10.0


class Phase(Enum):
    AUTHENTICATING = "authenticating"  # upgraded without a token: nothing but `authenticate` is taken
    VERIFYING = "verifying"  # a token came and is being checked; messages are held
    OPENING = "opening"  # `connected` has not been sent; messages are held
    OPEN = "open"
    CLOSING = "closing"  # our close frame is out, or the peer's came: nothing is read any more


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """A message for the dispatcher, or the token of a socket that is not authenticated."""

    message: ClientMessage


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """Answer with an error; the socket stays open."""

    refusal: UnreadableMessage


class AnswerPing(msgspec.Struct, frozen=True, gc=False):
    payload: bytes


class CloseSocket(msgspec.Struct, frozen=True, gc=False):
    """Send a close frame with this code. ``by_peer``: it answers the peer's own."""

    code: CloseCode
    reason: str
    by_peer: bool = False


Action = Deliver | Refuse | AnswerPing | CloseSocket

_AUTHENTICATE_FIRST = UnreadableMessage(
    ErrorCode.AUTHENTICATION_FAILED, "The first message must be of type authenticate"
)


class SocketProtocol:
    """One connection's protocol. ``deadline_s`` is when ``check`` has something to say."""

    __slots__ = ("_bucket", "_held", "_held_bytes", "_limits", "_reader", "_token_deadline_s", "deadline_s", "phase")

    def __init__(self, limits: ProtocolLimits, now_s: float, *, authenticated: bool) -> None:
        self._limits = limits
        self._reader = ClientFrameReader(limits.max_message_bytes)
        self._bucket = TokenBucket(limits.messages_per_s, limits.message_burst, now_s)
        self._held: list[Action] | None = None
        self._held_bytes = 0
        self._token_deadline_s = float("inf")
        self.phase = Phase.OPENING if authenticated else Phase.AUTHENTICATING
        self.deadline_s = now_s + (limits.silence_s if authenticated else AUTHENTICATION_LIMIT_S)

    # --- what the peer does --------------------------------------------------------------------------------

    def receive(self, data: bytes, now_s: float) -> list[Action]:
        """What the connection has to do about these bytes, in order. After a CloseSocket nothing follows."""
        if self.phase is Phase.CLOSING:
            return self._closing(data)
        actions: list[Action] = []
        for frame in self._reader.feed(data):
            if type(frame) is TextMessage:
                if not self._bucket.take(now_s):
                    actions.append(self.close(CloseCode.RATE_LIMITED, "too many messages"))
                    break
                self._text(frame.payload, now_s, actions)
                if actions and type(actions[-1]) is CloseSocket:
                    break
            elif type(frame) is Ping or type(frame) is Pong:
                if not self._bucket.take(now_s):
                    actions.append(self.close(CloseCode.RATE_LIMITED, "too many control frames"))
                    break
                if type(frame) is Ping:
                    actions.append(AnswerPing(frame.payload))
            elif type(frame) is Violation:
                actions.append(self.close(frame.code, frame.reason))
            elif type(frame) is PeerClose:
                actions.append(self.close(CloseCode.NORMAL, "", by_peer=True))
        return actions

    def _text(self, payload: bytes, now_s: float, actions: list[Action]) -> None:
        message = decode(payload)
        action: Action = Refuse(message) if type(message) is UnreadableMessage else Deliver(message)  # type: ignore[arg-type]  # an exact type test is not narrowed
        if self.phase is Phase.OPEN:
            self.deadline_s = min(now_s + self._limits.silence_s, self._token_deadline_s)
            actions.append(action)
        elif self.phase is Phase.AUTHENTICATING:
            if isinstance(message, Authenticate):
                self.phase = Phase.VERIFYING
                self.deadline_s = now_s + self._limits.silence_s
            elif isinstance(action, Deliver):
                action = Refuse(_AUTHENTICATE_FIRST)
            actions.append(action)
        else:
            self._hold(action, len(payload), actions)

    def _hold(self, action: Action, size_bytes: int, actions: list[Action]) -> None:
        """Keep what came before ``connected`` was sent; the total is bounded like one message."""
        self._held_bytes += size_bytes
        if self._held_bytes > self._limits.max_message_bytes:
            actions.append(self.close(CloseCode.RATE_LIMITED, "too many messages before the connection was set up"))
            return
        if self._held is None:
            self._held = []
        self._held.append(action)

    def _closing(self, data: bytes) -> list[Action]:
        """Only the peer's close frame still counts: it ends the handshake that we began."""
        for frame in self._reader.feed(data):
            if isinstance(frame, PeerClose):
                return [CloseSocket(CloseCode.NORMAL, "", by_peer=True)]
        return []

    # --- what we do ----------------------------------------------------------------------------------------

    def authenticated(self, now_s: float) -> None:
        """The token of the first message was accepted."""
        if self.phase is Phase.VERIFYING:
            self.phase = Phase.OPENING
            self.deadline_s = now_s + self._limits.silence_s

    def opened(self, token_deadline_s: float, now_s: float) -> list[Action]:
        """`connected` was sent: the messages that were held, to be carried out now."""
        if self.phase is not Phase.OPENING:
            return []
        self.phase = Phase.OPEN
        self.token_refreshed(token_deadline_s, now_s)
        held, self._held = self._held or [], None
        return held

    def token_refreshed(self, token_deadline_s: float, now_s: float) -> None:
        self._token_deadline_s = token_deadline_s
        self.deadline_s = min(now_s + self._limits.silence_s, token_deadline_s)

    def check(self, now_s: float) -> CloseSocket | None:
        """What has run out by now, if anything."""
        if now_s < self.deadline_s or self.phase is Phase.CLOSING:
            return None
        if self.phase is Phase.AUTHENTICATING:
            return self.close(CloseCode.AUTHENTICATION_TIMEOUT, "no authentication in time")
        if now_s >= self._token_deadline_s:
            return self.close(CloseCode.TOKEN_INVALID, "the token has expired")
        return self.close(CloseCode.SILENT, "no message in time")

    def close(self, code: CloseCode, reason: str, *, by_peer: bool = False) -> CloseSocket:
        """From here on only the peer's close frame is read."""
        self.phase = Phase.CLOSING
        self.deadline_s = float("inf")
        self._held = None
        return CloseSocket(code, reason, by_peer)
