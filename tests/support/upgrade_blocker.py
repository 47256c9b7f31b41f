"""A proxy as some companies have: HTTP gets through, WebSockets do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 64 * 1024


@asynccontextmanager
async def blocking_upgrades(target_port: int) -> AsyncIterator[int]:
    """The port of a proxy to ``target_port`` that drops each connection whose first request is for ``/ws``.

    A browser opens a connection of its own for each WebSocket, so nothing else is lost.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n")
            if head.startswith(b"GET /ws"):
                return
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", target_port)
            onward_writer.write(head)
            try:
                await asyncio.gather(_relay(reader, onward_writer), _relay(onward_reader, writer))
            finally:
                onward_writer.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
