"""POST /api/sessions, new and existing, against a bare aiohttp handler with the same SQL on the same PostgreSQL.

Both servers run in this process on uvloop, in turns; the load comes from another process over keep-alive
connections. What the pod does beyond the handler: the token, request ids, metrics, the log line, checked bodies,
events and presence in Redis, and its background loops.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import secrets
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import msgspec
import uvloop
from aiohttp import web

from benchmarks.support import report
from session_service import config
from session_service.clients.token_signer import sign_token
from session_service.config import LogFormat, LogSettings
from session_service.database.migrations import migrate
from session_service.database.sql_files import load_queries
from session_service.local.binaries import find_postgres, find_valkey
from session_service.local.ports import free_port
from session_service.local.postgres import EmbeddedPostgres
from session_service.local.valkey import EmbeddedValkey
from session_service.server import SessionServer
from session_service.telemetry import logs

CONNECTIONS = 32
ROUND_S = 2.0
ROUNDS = 7
POOL_SIZE = 10
SECRET_KEY = secrets.token_hex(32)
USERS = [f"user-{number}" for number in range(CONNECTIONS)]
BARE_USER_HEADER = "X-User"


# --- the load, in a process of its own ---------------------------------------------------------------------------


class Load(msgspec.Struct, frozen=True):
    """One round: every connection sends its user's next request as soon as the last one is answered."""

    port: int
    headers: list[str]  # by connection: the header line that says who is calling
    device_prefix: str
    is_new: bool  # a new device with each request


class Outcome(msgspec.Struct, frozen=True):
    answers: int
    failures: int
    seconds: float
    latencies_s: list[float]


class _Caller(asyncio.Protocol):
    def __init__(self, load: Load, header: str, outcome: list[float], failures: list[int]) -> None:
        self._numbers = itertools.count() if load.is_new else itertools.repeat(0)
        self._prefix = load.device_prefix
        self._head = f"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\n{header}\r\nContent-Length: ".encode()
        self._latencies_s, self._failures = outcome, failures
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        self._latencies_s.append(time.perf_counter() - self._sent_at)
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            self._failures.append(int(head[9:12]))
        self._received = b""
        self._send()

    def close(self) -> None:
        self._transport.close()

    def _send(self) -> None:
        body = b'{"deviceId":"%b-%d"}' % (self._prefix.encode(), next(self._numbers))
        self._sent_at = time.perf_counter()
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))


def drive(pipe: Connection) -> None:
    """The load process: runs each round that it is sent, until it is sent None."""

    async def run(load: Load) -> Outcome:
        loop = asyncio.get_running_loop()
        latencies_s: list[float] = []
        failures: list[int] = []
        began = time.perf_counter()
        callers = []
        for header in load.headers:
            make = partial(_Caller, load, header, latencies_s, failures)
            _transport, caller = await loop.create_connection(make, "127.0.0.1", load.port)
            callers.append(caller)
        await asyncio.sleep(ROUND_S)
        outcome = Outcome(len(latencies_s), len(failures), time.perf_counter() - began, list(latencies_s))
        for caller in callers:
            caller.close()
        return outcome

    while (load := pipe.recv()) is not None:
        pipe.send(uvloop.run(run(load)))


# --- the servers ---------------------------------------------------------------------------------------------------


async def bare_server(dsn: str, port: int) -> Callable[[], Awaitable[None]]:
    """aiohttp, asyncpg and the pod's own two statements; nothing else. Returns what ends it."""
    queries = load_queries()
    pool = await asyncpg.create_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE, init=_json_codec, reset=_no_reset)
    find, open_ = queries["sessions.find_by_device"], queries["sessions.open"]
    # The pod owns what both make: else it would adopt the bare handler's sessions while it is measured itself.
    pod_id = await pool.fetchval("SELECT pod_id FROM session.pods")

    async def handle(request: web.Request) -> web.Response:
        user_id = request.headers[BARE_USER_HEADER]
        device_id = msgspec.json.decode(await request.read())["deviceId"]
        is_new = False
        async with pool.acquire() as connection:
            row = await connection.fetchrow(find, user_id, device_id)
        if row is None:
            is_new = True
            metadata = {"pod_name": "bare", "device_id": device_id, "reconnect_count": 0, "frontend_connections": 0,
                        "sse_connections": 0, "connection_quality": "GOOD", "ip_address": "127.0.0.1"}  # fmt: skip
            async with pool.acquire() as connection:
                row = await connection.fetchrow(
                    open_, str(uuid.uuid4()), user_id, device_id, 3600.0, 1_000_000, metadata, pod_id
                )
        assert row is not None
        answer = {
            "success": True,
            "sessionId": row["session_id"],
            "isNew": is_new,
            "status": row["status"],
            "expiresAt": row["expires_at"],
            "podName": row["metadata"]["pod_name"],
        }
        body = msgspec.json.encode(answer)
        return web.Response(body=body, status=201 if is_new else 200, content_type="application/json")

    app = web.Application()
    app.router.add_post("/api/sessions", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()

    async def close() -> None:
        await runner.cleanup()
        await pool.close()

    return close


async def _json_codec(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + msgspec.json.encode(value),
        decoder=lambda raw: msgspec.json.decode(raw[1:]),
    )


async def _no_reset(_connection: Any) -> None:
    pass


async def pod_server(postgres: EmbeddedPostgres, password: str, valkey: EmbeddedValkey, port: int) -> SessionServer:
    redis = urlsplit(valkey.url())
    environ = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "SECRET_KEY": SECRET_KEY,
        "DB_HOST": "127.0.0.1",
        "DB_PORT": str(postgres.port),
        "DB_USER": "session_service",
        "DB_PASSWORD": password,
        "DB_SSLMODE": "disable",
        "DB_MAX_CONNECTIONS": str(POOL_SIZE),
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis.port),
        "REDIS_PASSWORD": redis.password or "",
        "SIMULATOR_BACKEND": "service",
        "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1",
        "MAX_SESSIONS_PER_USER": "10000",
        "DRAIN_DELAY_SECONDS": "0",
    }
    server = SessionServer(config.load(environ).settings, environ)
    await server.initialize()
    await server.start()
    return server


# --- the comparison ------------------------------------------------------------------------------------------------


def bearer_of(user_id: str) -> str:
    return f"Authorization: Bearer {sign_token(SECRET_KEY, 'HS256', user_id, now_s=time.time(), ttl_s=3600)}"


async def compare(pod_port: int, bare_port: int, pipe: Connection) -> dict[str, Any]:
    """Rounds in turns, so that a busy neighbour meets both; ratios are medians of the pairs."""
    loop = asyncio.get_running_loop()
    targets = {
        "pod": (pod_port, [bearer_of(user_id) for user_id in USERS]),
        "bare": (bare_port, [f"{BARE_USER_HEADER}: {user_id}" for user_id in USERS]),
    }
    figures: dict[str, Any] = {}
    for kind in ("new", "existing"):
        rates: dict[str, list[float]] = {name: [] for name in targets}
        costs_us: dict[str, list[float]] = {name: [] for name in targets}
        latencies_s: dict[str, list[float]] = {name: [] for name in targets}
        for number in range(ROUNDS + 1):
            for name, (port, headers) in targets.items():
                prefix = f"{name}-{number}" if kind == "new" else f"{name}-existing"
                cpu_before_s = time.process_time()
                pipe.send(Load(port, headers, prefix, kind == "new"))
                outcome: Outcome = await loop.run_in_executor(None, pipe.recv)
                cpu_s = time.process_time() - cpu_before_s
                assert outcome.failures == 0, (kind, name, outcome.failures)
                if number == 0:
                    continue  # connections, prepared statements and caches are made in the first
                rates[name].append(outcome.answers / outcome.seconds)
                costs_us[name].append(cpu_s / outcome.answers * 1e6)
                latencies_s[name] += outcome.latencies_s
        for name in targets:
            quantiles = statistics.quantiles(latencies_s[name], n=100)
            figures[f"{kind}: {name} requests/s"] = round(statistics.median(rates[name]))
            figures[f"{kind}: {name} CPU us/request"] = round(statistics.median(costs_us[name]))
            figures[f"{kind}: {name} p50 ms"] = round(quantiles[49] * 1000, 2)
            figures[f"{kind}: {name} p99 ms"] = round(quantiles[98] * 1000, 2)
        ratios = [pod / bare for pod, bare in zip(rates["pod"], rates["bare"], strict=True)]
        figures[f"{kind}: pod / bare (reach 0.8)"] = round(statistics.median(ratios), 3)
    return figures


async def main(pipe: Connection, directory: Path) -> dict[str, Any]:
    password = secrets.token_hex(16)
    postgres = EmbeddedPostgres(
        find_postgres(), directory / "postgres", password=secrets.token_hex(8), log=directory / "postgres.log"
    )
    valkey = EmbeddedValkey(find_valkey(), password=secrets.token_hex(8), log=directory / "valkey.log")
    await postgres.prepare()
    await postgres.start()
    await valkey.start()
    try:
        maintenance = await asyncpg.connect(postgres.dsn("postgres"))
        if not await maintenance.fetchval("SELECT true FROM pg_database WHERE datname = 'sessiondb'"):
            await maintenance.execute("CREATE DATABASE sessiondb")
        await maintenance.close()
        await migrate(postgres.dsn(), service_role="session_service", service_password=password)
        pod_port, bare_port = free_port(), free_port()
        pod = await pod_server(postgres, password, valkey, pod_port)
        close_bare = await bare_server(postgres.dsn(), bare_port)
        try:
            return await compare(pod_port, bare_port, pipe)
        finally:
            await close_bare()
            await pod.shutdown("benchmark over")
    finally:
        await valkey.stop()
        await postgres.stop()
        postgres.close()


if __name__ == "__main__":
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - open as long as the process logs
    logs.configure(LogSettings(format=LogFormat.JSON), "pod", stream=nowhere)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=drive, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that the end of the load process ends this one too
    with tempfile.TemporaryDirectory() as made:
        result = uvloop.run(main(ours, Path(made)))
    ours.send(None)
    process.join()
    report("create_session", ("aiohttp", "asyncpg", "msgspec", "uvloop"), result)
