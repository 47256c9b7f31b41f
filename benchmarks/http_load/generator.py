"""The load: each connection sends its next request as soon as the last one is answered."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import cast

import msgspec
import uvloop

from benchmarks.http_load.cores import load_core

NUMBER = b"########"  # stands in a request for a number that is another one each time
ROUND_LIMIT_S = 120.0
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Load(msgspec.Struct, frozen=True):
    """``callers``: of each connection the requests, whole, which it sends in turn.

    ``seconds``: for how long, from the first request again after the last; None: each request once.
    """

    port: int
    callers: list[list[bytes]]
    seconds: float | None


class Outcome(msgspec.Struct, frozen=True):
    """``busy``: the share of its core that the load took. Near 1 it is the load that was measured."""

    seconds: float
    busy: float
    latencies_s: list[float]
    failures: list[int]  # the statuses that were no 2xx

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.seconds


class _Caller(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], latencies_s: list[float], failures: list[int]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._latencies_s, self._failures = latencies_s, failures
        self._received = b""
        self._sent_at_s = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        head_bytes = self._received.find(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(self._received, 0, head_bytes) if head_bytes >= 0 else None
        if length is None or len(self._received) < head_bytes + 4 + int(length[1]):
            return
        self._latencies_s.append(time.perf_counter() - self._sent_at_s)
        if not self._received.startswith(b"HTTP/1.1 2"):
            self._failures.append(int(self._received[9:12]))
        self._received = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"the server closed a connection: {exc}"))

    def stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._transport.close()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.stop()
            return
        self._sent_at_s = time.perf_counter()
        self._transport.write(request)


def _numbered(requests: Iterator[bytes]) -> Iterator[bytes]:
    for number, request in enumerate(requests):
        yield request.replace(NUMBER, b"%08d" % number)


async def _run(load: Load) -> Outcome:
    loop = asyncio.get_running_loop()
    latencies_s: list[float] = []
    failures: list[int] = []
    callers = []
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for requests in load.callers:
        in_turn = iter(requests) if load.seconds is None else itertools.cycle(requests)
        if any(NUMBER in request for request in requests):
            in_turn = _numbered(in_turn)
        _, caller = await loop.create_connection(
            partial(_Caller, in_turn, latencies_s, failures), "127.0.0.1", load.port
        )
        callers.append(caller)
    ended = [caller.ended for caller in callers]
    if load.seconds is None:
        async with asyncio.timeout(ROUND_LIMIT_S):
            await asyncio.gather(*ended)
    else:
        await asyncio.wait(ended, timeout=load.seconds, return_when=asyncio.FIRST_EXCEPTION)
    seconds = time.perf_counter() - began_s
    busy = (time.process_time() - began_cpu_s) / seconds
    outcome = Outcome(seconds, busy, list(latencies_s), list(failures))
    for caller in callers:
        caller.stop()
    await asyncio.gather(*ended)  # raises what a server that closes did to the figures
    return outcome


def _serve(pipe: Connection) -> None:
    os.sched_setaffinity(0, {load_core()})
    while (load := pipe.recv()) is not None:
        pipe.send(uvloop.run(_run(load)))


class LoadGenerator:
    """``with LoadGenerator() as load: load.run(Load(…))``."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends a wait for it too

    def __enter__(self) -> LoadGenerator:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.terminate()
        self._process.join()

    def run(self, load: Load) -> Outcome:
        """Blocks until it is over. Raises EOFError where a connection was lost."""
        self._pipe.send(load)
        outcome: Outcome = self._pipe.recv()
        return outcome
