"""Answers that are not read: their clients are cut off, and those who read slowly are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from session_service.api.http_server import HttpServer
from tests.support.waiting import eventually

ANSWER_BYTES = 8 * 1024 * 1024  # more than two kernels hold between them
UNREAD_LIMIT_S = 1.0


@pytest.fixture
def answered() -> list[asyncio.Transport]:
    """Over which connections the server has answered."""
    return []


@pytest.fixture
async def server(answered: list[asyncio.Transport]) -> AsyncIterator[HttpServer]:
    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        answered.append(request.transport)
        return web.Response(body=b"x" * ANSWER_BYTES)

    app = web.Application()
    app.router.add_get("/", handle)
    made = HttpServer(app, unread_limit_s=UNREAD_LIMIT_S)
    await made.setup()
    await web.TCPSite(made, "127.0.0.1", 0).start()
    yield made
    await made.cleanup()


@asynccontextmanager
async def asked(server: HttpServer) -> AsyncIterator[socket.socket]:
    """A connection of little room, over which the answer was asked for."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, server.addresses[0])
        await loop.sock_sendall(connection, b"GET / HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
        yield connection


async def test_a_client_that_reads_nothing_is_cut_off(server: HttpServer, answered: list[asyncio.Transport]) -> None:
    async def is_cut_off() -> bool:
        return bool(answered) and answered[0].is_closing()

    async with asked(server):
        await eventually(is_cut_off, within_s=20, what="the end of who reads nothing")


async def test_a_client_that_reads_slowly_gets_all_of_it(server: HttpServer) -> None:
    loop = asyncio.get_running_loop()
    began_s, received = loop.time(), 0
    async with asked(server) as connection:
        while piece := await loop.sock_recv(connection, 64 * 1024):
            received += len(piece)
            behind_s = began_s + 3 * UNREAD_LIMIT_S * received / ANSWER_BYTES - loop.time()
            await asyncio.sleep(max(0.0, behind_s))
    assert received > ANSWER_BYTES
    assert loop.time() - began_s > 2 * UNREAD_LIMIT_S
