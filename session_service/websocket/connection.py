"""A client's connection: one WebSocket, or one stream of server-sent events.

Both write straight to their transport, whole frames that were encoded before, often for many connections at once.
There is one writer, no queue and no task per connection: what the kernel does not take waits in the transport's
buffer, which is bounded here. A peer that stops reading is aborted, since a close handshake needs a reader.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol

from session_service.domain.identity import Identity
from session_service.domain.quality import Quality
from session_service.websocket.emitters import Outgoing
from session_service.websocket.session_entry import SessionEntry
from session_service.websocket.streams import Attachment
from session_service.websocket.traffic import Traffic
from session_service.wire.client_frames import close_frame, pong_frame
from session_service.wire.close_codes import CloseCode
from session_service.wire.event_stream import KEEP_ALIVE
from session_service.wire.exchange_frames import ExchangeFrame
from session_service.wire.messages import ClientMessage, Command, UnreadableMessage
from session_service.wire.protocol import Action, AnswerPing, CloseSocket, Deliver, Refuse, SocketProtocol

CLOSE_LIMIT_S = 2.0  # a peer's time to answer our close frame, and to read what is left
MAX_UNSENT_BYTES = 1024 * 1024  # answers and notices on top of exchange data, whose own limit is far lower
UNSENT_IN_KERNEL_BYTES = 16 * 1024  # beyond it the kernel takes no more, so that slowness is noticed here and early


class MessageReceiver(Protocol):
    """Who handles what a WebSocket's client sends. Neither call may block or raise."""

    def on_message(self, connection: WebSocketConnection, message: ClientMessage) -> None: ...

    def on_refusal(self, connection: WebSocketConnection, refusal: UnreadableMessage) -> None: ...


class ClientConnection(ABC):
    """What the registry, the emitters and the streams need of a connection.

    ``named``: the client gave its own client id, so it can move during a drain without a gap. ``ended`` is done once
    the connection is over and its handler may return.
    """

    __slots__ = (
        "_clock",
        "_traffic",
        "_transport",
        "arrival",
        "attachment",
        "attempt",
        "client_id",
        "close_code",
        "closed_by_peer",
        "ended",
        "entry",
        "evicted",
        "identity",
        "is_open",
        "last_message_s",
        "named",
        "on_exchange_data",
        "quality",
        "reconnect_recommended",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        traffic: Traffic,
        clock: Callable[[], float],
        *,
        client_id: str,
        attempt: int,
        named: bool,
        identity: Identity | None,
    ) -> None:
        self._clock = clock
        self._transport: asyncio.Transport | None = transport
        self._traffic = traffic
        self.client_id = client_id
        self.attempt = attempt
        self.named = named
        self.identity = identity
        self.arrival: int | None = None  # its number in session.sockets, once it is counted
        self.entry: SessionEntry | None = None
        self.attachment: Attachment | None = None
        self.last_message_s = self._clock()
        self.evicted = False  # it made room for another: it goes as soon as its first frame is out
        self.on_exchange_data: Callable[[], None] | None = None  # called once, after the first of it
        self.is_open = False  # `connected` is out: other frames may follow
        self.quality = Quality.GOOD
        self.reconnect_recommended = False
        self.close_code: CloseCode | None = None
        self.closed_by_peer = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        notice_slowness_early(transport)

    def is_leaving(self) -> bool:
        """A close was begun, or the transport is lost: nothing more is sent."""
        return self.close_code is not None or self._transport is None

    @property
    @abstractmethod
    def deadline_s(self) -> float:
        """When ``expire`` has something to do, on the clock."""

    @abstractmethod
    def expire(self, now_s: float) -> None:
        """Do what a passed deadline asks for."""

    @abstractmethod
    def send(self, outgoing: Outgoing) -> None:
        """Send one message; nothing happens on a connection that is leaving. Never blocks, never raises."""

    @abstractmethod
    def send_exchange_frame(self, frame: ExchangeFrame) -> None:
        """Send exchange data; as ``send``."""

    @abstractmethod
    def close(self, code: CloseCode, reason: str) -> None:
        """Begin the end; it takes ``CLOSE_LIMIT_S`` at most. Idempotent: the first code stays."""

    def unsent_bytes(self) -> int:
        """What the kernel has not taken yet."""
        transport = self._transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def too_slow(self) -> None:
        """The reader lags beyond its bounds."""
        self.close(CloseCode.TOO_SLOW, "too slow")

    def abort(self) -> None:
        """Drop the transport with whatever it holds: the only way to be rid of a peer that does not read."""
        if self._transport is not None:
            self._transport.abort()

    def _first_exchange_data(self) -> None:
        told, self.on_exchange_data = self.on_exchange_data, None
        if told is not None:
            told()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or self.close_code is not None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.too_slow()

    def _lost(self) -> None:
        self._transport = None
        if not self.ended.done():
            self.ended.set_result(None)


class WebSocketConnection(ClientConnection):
    """One WebSocket. It is the parser that aiohttp feeds with the bytes after the upgrade."""

    __slots__ = ("_close_timer", "_receiver", "commands", "protocol")

    def __init__(
        self,
        transport: asyncio.Transport,
        traffic: Traffic,
        clock: Callable[[], float],
        protocol: SocketProtocol,
        receiver: MessageReceiver,
        *,
        client_id: str,
        attempt: int = 0,
        named: bool = False,
        identity: Identity | None = None,
    ) -> None:
        super().__init__(
            transport, traffic, clock, client_id=client_id, attempt=attempt, named=named, identity=identity
        )
        self.protocol = protocol
        self._receiver = receiver
        self._close_timer: asyncio.TimerHandle | None = None
        self.commands: deque[Command] | None = None  # there while commands wait or run (websocket.dispatcher)

    # --- what aiohttp calls --------------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.carry_out(self.protocol.receive(data, self._clock()))
        return False, b""

    def feed_eof(self) -> None:
        """The transport is lost, by whomever."""
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._lost()

    # --- both ways -----------------------------------------------------------------------------------------

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if type(action) is Deliver:
                self.last_message_s = self._clock()
                self._receiver.on_message(self, action.message)
            elif type(action) is Refuse:
                self.last_message_s = self._clock()
                self._receiver.on_refusal(self, action.refusal)
            elif type(action) is AnswerPing:
                self._write(pong_frame(action.payload))
            elif type(action) is CloseSocket:
                self._begin_close(action)

    @property
    def deadline_s(self) -> float:
        return self.protocol.deadline_s

    def expire(self, now_s: float) -> None:
        action = self.protocol.check(now_s)
        if action is not None:
            self._begin_close(action)

    def send(self, outgoing: Outgoing) -> None:
        if self.close_code is None:
            self._traffic.sent(outgoing.type)
            self._write(outgoing.websocket)

    def send_exchange_frame(self, frame: ExchangeFrame) -> None:
        transport = self._transport
        if transport is not None and self.close_code is None and not transport.is_closing():
            self._traffic.exchange_frames += frame.messages
            transport.write(frame.websocket)
            if self.on_exchange_data is not None:
                self._first_exchange_data()

    def close(self, code: CloseCode, reason: str) -> None:
        if self.close_code is None:
            self._begin_close(self.protocol.close(code, reason))

    def _begin_close(self, action: CloseSocket) -> None:
        """Send our close frame, once; end the handshake when the peer's has come (RFC 6455 §7.1.2–5)."""
        if self.close_code is None:
            self.closed_by_peer = action.by_peer
            if not action.by_peer:
                self._traffic.error(action.code.name.lower())
            self.close_code = action.code
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(close_frame(action.code, action.reason))
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_LIMIT_S, self.abort)
        if action.by_peer and self._transport is not None:
            self._transport.close()  # after what is still to be written; `feed_eof` follows


class EventStreamConnection(ClientConnection):
    """One stream of server-sent events (WHATWG HTML §9.2), its chunks framed here (RFC 9112 §7.1)."""

    __slots__ = ("_chunked", "_comment_interval_s", "_next_comment_s", "token_deadline_s")

    def __init__(
        self,
        transport: asyncio.Transport,
        traffic: Traffic,
        clock: Callable[[], float],
        *,
        client_id: str,
        attempt: int,
        named: bool,
        identity: Identity,
        token_deadline_s: float,
        comment_interval_s: float,
        chunked: bool,
    ) -> None:
        super().__init__(
            transport, traffic, clock, client_id=client_id, attempt=attempt, named=named, identity=identity
        )
        self.token_deadline_s = token_deadline_s
        self._comment_interval_s = comment_interval_s
        self._next_comment_s = self._clock() + comment_interval_s
        self._chunked = chunked

    @property
    def deadline_s(self) -> float:
        # A lost transport is noticed by asking: aiohttp tells it to a handler only when that reads or writes.
        if self._transport is not None and self._transport.is_closing():
            return 0.0
        return min(self.token_deadline_s, self._next_comment_s)

    def expire(self, now_s: float) -> None:
        if self._transport is None or self._transport.is_closing():
            self._lost()
        elif now_s >= self.token_deadline_s:
            self.close(CloseCode.TOKEN_INVALID, "the token has expired")
        elif now_s >= self._next_comment_s:
            self._next_comment_s = now_s + self._comment_interval_s
            self._write(self._chunk(KEEP_ALIVE))

    def send(self, outgoing: Outgoing) -> None:
        if self.close_code is None:
            self._traffic.sent(outgoing.type)
            self._write(self._chunk(outgoing.event_stream))

    def send_exchange_frame(self, frame: ExchangeFrame) -> None:
        if self.close_code is None:
            self._traffic.exchange_frames += frame.messages
            self._write(self._chunk(frame.event_stream))
            if self.on_exchange_data is not None:
                self._first_exchange_data()

    def close(self, code: CloseCode, reason: str) -> None:
        """There are no close codes here: the stream ends, and the request that follows is told why."""
        if self.close_code is not None:
            return
        self.close_code = code
        self._traffic.error(code.name.lower())
        if self._transport is not None:
            if code is CloseCode.TOO_SLOW:
                self._transport.abort()
            else:
                asyncio.get_running_loop().call_later(CLOSE_LIMIT_S, self._transport.abort)
        if not self.ended.done():
            self.ended.set_result(None)

    def _chunk(self, text: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(text), text) if self._chunked else text


def notice_slowness_early(transport: asyncio.BaseTransport) -> None:
    """Let the kernel hold little: by default it takes some 4 MB before a writer sees that nobody reads."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, UNSENT_IN_KERNEL_BYTES)
    else:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * UNSENT_IN_KERNEL_BYTES)
