"""LISTEN: a connection of its own beside the pool, which comes back whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import asyncpg
import structlog

from session_service.aiokit.backoff import Backoff
from session_service.config import DatabaseSettings
from session_service.database.postgres import Record, connection_options

log = structlog.get_logger(__name__)

KEEPALIVE_EVERY_S = 5.0  # a server that is gone without a word is noticed within this and one command's limit
_CLOSE_LIMIT_S = 1.0
# InternalClientError: the driver's own, where the connection broke between two steps of a statement.
_LOST = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
)


class NotificationListener:
    """The notifications of one channel (PostgreSQL's manual, LISTEN). ``run`` is a loop for the pod's task guard.

    What was notified while there was no connection is not told: ``on_connected`` says each time that the connection
    is there from now on, and who needs it looks for himself what came before.
    """

    def __init__(
        self, settings: DatabaseSettings, channel: str, *, keepalive_every_s: float = KEEPALIVE_EVERY_S
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._keepalive_every_s = keepalive_every_s
        self._on_payload: list[Callable[[str], None]] = []
        self._on_connected: list[Callable[[], None]] = []
        self._away = False

    def subscribe(self, on_payload: Callable[[str], None], on_connected: Callable[[], None]) -> None:
        """Call these, in the event loop, for each notification and each new connection. Neither may block."""
        self._on_payload.append(on_payload)
        self._on_connected.append(on_connected)

    async def run(self) -> None:
        """Listen, and connect again after a growing wait whenever that ends. Runs until it is cancelled.

        PostgreSQL need not be there. An outage is one warning, and one line when it is over.
        """
        backoff = Backoff(first_s=0.1, max_s=2.0, jitter=0.5)  # pods that lost one server come back spread
        failures = 0
        while True:
            try:
                connection = await self._connect()
            except _LOST as error:
                failures += 1
                self._lost(error)
            else:
                failures = 0
                await self._listen(connection)
            await asyncio.sleep(backoff.delay_s(max(failures, 1), random.random))

    async def _connect(self) -> asyncpg.Connection[Record]:
        """A connection that listens. Raises what the driver raises, and leaves no connection behind then."""
        # Without prepared statements: a pooler between here and the server may know nothing of them.
        connection: asyncpg.Connection[Record] = await asyncpg.connect(
            **connection_options(self._settings), statement_cache_size=0
        )
        try:
            await connection.add_listener(self._channel, self._receive)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _listen(self, connection: asyncpg.Connection[Record]) -> None:
        """Until the connection is lost."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _connection: ended.set())
        try:
            log.log(logging.INFO if self._away else logging.DEBUG, "notifications_heard", channel=self._channel)
            self._away = False
            self._tell(self._on_connected)
            while not (ended.is_set() or connection.is_closed()):
                try:
                    async with asyncio.timeout(self._keepalive_every_s):
                        await ended.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
            self._lost(None)
        except _LOST as error:
            self._lost(error)
        finally:
            await self._close(connection)

    async def _close(self, connection: asyncpg.Connection[Record]) -> None:
        try:
            await connection.close(timeout=_CLOSE_LIMIT_S)
        except _LOST:
            connection.terminate()

    def _lost(self, error: BaseException | None) -> None:
        if not self._away:
            self._away = True
            kind = "ConnectionLost" if error is None else type(error).__name__
            log.warning("notifications_lost", channel=self._channel, error=kind, detail=str(error or ""))

    def _receive(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._tell(self._on_payload, str(payload))

    def _tell(self, callbacks: list[Callable[..., None]], *payload: str) -> None:
        for callback in callbacks:
            try:
                callback(*payload)
            except Exception:  # one subscriber's fault must not keep it from the others, nor end the connection
                log.exception("notification_subscriber_failed", channel=self._channel)
