"""Clients that all come back at once, in a process of their own: each storm resumes every one of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import uvloop

from benchmarks.reconnects.session_socket import Frame, SessionSocket, upgrade_request
from benchmarks.reconnects.system import DEVICE, OpenedSession

RESUME_LIMIT_S = 15.0


class Storm(msgspec.Struct, frozen=True):
    """Every client comes to ``port`` once, ``at_once`` of them at a time.

    ``behind``: how many updates before the last one that it has seen each says to be, so that they are replayed.
    """

    port: int
    at_once: int
    behind: int


class Outcome(msgspec.Struct, frozen=True):
    seconds: float
    refused: int
    not_resumed: int
    latencies_s: list[float]


class _Client:
    """One client, over all its sockets. Without a token it waits for no more than the first frame."""

    def __init__(self, number: int, session: OpenedSession | None) -> None:
        self.refused = self.not_resumed = 0
        self._number = number
        self._session = session
        self._attempt = 0
        self._epoch = self._sequence = 0

    async def come_back(self, storm: Storm) -> float:
        """Connect until it is not refused; seconds from the last try's start to the last replayed frame."""
        loop = asyncio.get_running_loop()
        while True:
            self._attempt += 1
            began_s = time.perf_counter()
            behind = self._epoch, max(0, self._sequence - storm.behind)
            arrived: asyncio.Future[None] = loop.create_future()
            make = partial(SessionSocket, self._request(*behind), self._reader(arrived))
            _, socket = await loop.create_connection(make, "127.0.0.1", storm.port)
            async with asyncio.timeout(RESUME_LIMIT_S):
                either: list[asyncio.Future[Any]] = [arrived, socket.ended]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            took_s = time.perf_counter() - began_s
            if arrived.done():
                socket.lose()
                return took_s
            if socket.refused != 503:
                raise ConnectionError(f"closed with {socket.ended.result()}, status {socket.refused}")
            self.refused += 1
            await asyncio.sleep(socket.retry_after_s)

    def _request(self, epoch: int, sequence: int) -> bytes:
        if self._session is None:
            return upgrade_request(f"deviceId={DEVICE}")
        query = f"deviceId={DEVICE}&sessionId={self._session.session_id}&clientId=tab-{self._number}"
        if epoch:
            query += f"&attempt={self._attempt}&epoch={epoch}&sequence={sequence}"
        return upgrade_request(query, self._session.token)

    def _reader(self, arrived: asyncio.Future[None]) -> Callable[[Frame], None]:
        had = self._sequence
        first = self._epoch == 0

        def take(frame: Frame) -> None:
            if frame.type == "connected":
                self.not_resumed += not first and not frame.resumed
            if frame.type == "exchange_data":
                self._epoch, self._sequence = frame.epoch or 0, frame.sequence or 0
            elif self._session is not None:
                return
            if self._sequence >= had and not arrived.done():
                arrived.set_result(None)

        return take


def _serve(pipe: Connection, sessions: list[OpenedSession | None]) -> None:
    clients = [_Client(number, session) for number, session in enumerate(sessions)]

    async def run(storm: Storm) -> Outcome:
        places = asyncio.Semaphore(storm.at_once)
        before = sum(client.refused for client in clients), sum(client.not_resumed for client in clients)

        async def one(client: _Client) -> float:
            async with places:
                return await client.come_back(storm)

        began_s = time.perf_counter()
        latencies_s = await asyncio.gather(*(one(client) for client in clients))
        return Outcome(
            time.perf_counter() - began_s,
            sum(client.refused for client in clients) - before[0],
            sum(client.not_resumed for client in clients) - before[1],
            list(latencies_s),
        )

    while (storm := pipe.recv()) is not None:
        pipe.send(uvloop.run(run(storm)))


class StormClients:
    """``with StormClients(sessions) as clients``; a session of None is a client of a server without sessions."""

    def __init__(self, sessions: list[OpenedSession] | list[None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, sessions), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends a wait for it too

    def __enter__(self) -> StormClients:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.terminate()
        self._process.join()

    def run(self, storm: Storm) -> Outcome:
        """Blocks until every client has come back. Raises EOFError where a client failed."""
        self._pipe.send(storm)
        outcome: Outcome = self._pipe.recv()
        return outcome
