"""One session's exchange while it lives: its engine, its window, and the streams that wait for its updates."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from exchange_api.exchange_pb2 import SubmitOrderResponse
from exchange_simulator.engine import Engine, OrderTicket, Update
from exchange_simulator.orders import UserOrder
from exchange_simulator.request_log import RequestLog
from exchange_simulator.window import UpdateWindow


class Session:
    """Belongs to one event loop; its methods are atomic in it. Instants are those of the arguments.

    `heard_at_s` (monotonic) is when a heartbeat or a stream last showed that somebody wants this session.
    """

    def __init__(self, session_id: str, simulator_id: str, engine: Engine, *, now_ms: int, now_s: float) -> None:
        self.session_id = session_id
        self.simulator_id = simulator_id
        self.symbols = engine.symbols
        self.started_at_s = now_s
        self.heard_at_s = now_s
        self.answers: RequestLog[SubmitOrderResponse] = RequestLog()
        self.window = UpdateWindow(engine.epoch)
        self.ended = False
        self._engine = engine
        self._streams = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._snapshot: tuple[int, bytes] = (0, b"")
        self._publish(engine.open(now_ms))

    def tick(self, now_ms: int) -> None:
        """Moves the markets one step."""
        self._publish(self._engine.tick(now_ms))

    def submit_order(self, ticket: OrderTicket, now_ms: int) -> UserOrder:
        """Places an order (Engine.submit_order); its update is in the window when this returns."""
        order, update = self._engine.submit_order(ticket, now_ms)
        self._publish(update)
        return order

    def cancel_order(self, order_id: str, now_ms: int) -> str:
        """Cancels an order; returns why it could not be, or an empty text."""
        objection, update = self._engine.cancel_order(order_id, now_ms)
        if update is not None:
            self._publish(update)
        return objection

    def order(self, order_id: str) -> UserOrder | None:
        """The order's present state; None when it is unknown or forgotten."""
        return self._engine.order(order_id)

    def snapshot(self, now_ms: int) -> bytes:
        """The whole state as of the head, encoded once however many streams begin there."""
        head, encoded = self._snapshot
        if head != self.window.head:
            encoded = self._engine.snapshot(now_ms)
            self._snapshot = (self.window.head, encoded)
        return encoded

    def is_abandoned(self, now_s: float, ttl_s: float) -> bool:
        """Whether nobody streams and no heartbeat came for `ttl_s`."""
        return not self._streams and now_s - self.heard_at_s > ttl_s

    @contextmanager
    def streaming(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Counts a stream for as long as it is open; the time to live begins anew at its end."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
            self.heard_at_s = loop.time()

    async def changed(self) -> None:
        """Returns after the next update, or when the session ends. Safe to cancel."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def end(self) -> None:
        """Ends the session: its streams send what the window still holds, and end."""
        self.ended = True
        self._wake()

    def _publish(self, update: Update) -> None:
        self.window.append(update)
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():  # done: the stream was cancelled while it waited
                future.set_result(None)
