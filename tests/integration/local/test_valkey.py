"""The embedded Redis-compatible server."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from redis import asyncio as redis

from session_service.local.valkey import EmbeddedValkey

Make = Callable[[str], EmbeddedValkey]


async def test_answers_on_loopback_to_whoever_has_the_password(make_valkey: Make) -> None:
    server = make_valkey("a-password")
    await server.start()
    async with redis.Redis.from_url(server.url()) as client:
        assert await client.set("key", "value")
    async with redis.Redis(host="127.0.0.1", port=server.port) as stranger:
        with pytest.raises(redis.AuthenticationError):
            await stranger.get("key")
    process = psutil.Process(server.pid)
    assert {entry.laddr.ip for entry in process.net_connections() if entry.status == "LISTEN"} == {"127.0.0.1"}
    assert "a-password" not in " ".join(process.cmdline())


async def test_comes_back_empty_on_the_same_port(make_valkey: Make, tmp_path: Path) -> None:
    server = make_valkey("p")
    await server.start()
    url = server.url()
    async with redis.Redis.from_url(url) as client:
        await client.set("key", "value")
    os.kill(server.pid, signal.SIGKILL)
    assert await server.wait() == "SIGKILL"
    await server.start()
    assert server.url() == url
    async with redis.Redis.from_url(url) as client:
        assert await client.dbsize() == 0
    await server.stop()
    assert {path.suffix for path in tmp_path.iterdir()} == {".log"}
