"""One REST request, seen down to the real servers it reaches; spans in memory."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import grpc
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from redis import asyncio as redis

from exchange_api import exchange_pb2, exchange_pb2_grpc
from session_service.local.binaries import find_postgres, find_valkey
from session_service.local.postgres import EmbeddedPostgres
from session_service.local.valkey import EmbeddedValkey
from session_service.telemetry.tracing import Tracing

CANARY = "canary-0123456789"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}


class Exchange(exchange_pb2_grpc.ExchangeSimulatorServicer):
    """Answers heartbeats and streams one update; remembers the metadata."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}

    async def Heartbeat(self, request, context):  # type: ignore[no-untyped-def] # signature of the generated base
        self.metadata = dict(context.invocation_metadata())
        return exchange_pb2.HeartbeatResponse()

    async def StreamExchangeData(self, request, context):  # type: ignore[no-untyped-def] # as above
        yield exchange_pb2.ExchangeDataUpdate()


@pytest.fixture
async def tracing() -> AsyncIterator[tuple[Tracing, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    it = Tracing.start({}, "pod-1", span_exporter=exporter)
    yield it, exporter
    await it.close()


Traced = tuple[Tracing, InMemorySpanExporter]


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def serve(tracing: Tracing, *routes: web.RouteDef) -> TestClient[web.Request, web.Application]:
    middleware = tracing.middleware()
    assert middleware is not None
    app = web.Application(middlewares=[middleware])
    app.add_routes(routes)
    client = TestClient(TestServer(app))
    await client.start_server()
    # The caller is somebody else: no span of ours, and its own traceparent.
    AioHttpClientInstrumentor.uninstrument_session(client.session)
    return client


async def test_a_request_is_followed_to_every_dependency(tracing: Traced, tmp_path: Path) -> None:
    it, exporter = tracing
    postgres = EmbeddedPostgres(
        find_postgres(), directory=tmp_path / "postgres", password="p", log=tmp_path / "postgres.log"
    )
    valkey = EmbeddedValkey(find_valkey(), password="p", log=tmp_path / "valkey.log")
    exchange = Exchange()  # type: ignore[abstract] # the other calls answer UNIMPLEMENTED
    server = grpc.aio.server()
    exchange_pb2_grpc.add_ExchangeSimulatorServicer_to_server(exchange, server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    auth_headers: list[str] = []

    async def auth_handler(request: web.Request) -> web.Response:
        auth_headers.append(request.headers["traceparent"])
        return web.Response()

    auth_app = web.Application()
    auth_app.router.add_post("/api/auth/validate", auth_handler)
    auth = TestServer(auth_app)
    try:
        await asyncio.gather(postgres.prepare(), valkey.start(), server.start(), auth.start_server())
        await postgres.start()
        connection = await asyncpg.connect(postgres.dsn("postgres"))
        cache = redis.Redis.from_url(valkey.url())
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
        stub = exchange_pb2_grpc.ExchangeSimulatorStub(channel)
        http = aiohttp.ClientSession()

        async def handler(_request: web.Request) -> web.Response:
            await connection.fetchval("SELECT $1::text", CANARY)
            await cache.get("session:1")
            await stub.Heartbeat(exchange_pb2.HeartbeatRequest(), timeout=5)
            async for _update in stub.StreamExchangeData(exchange_pb2.StreamRequest(), timeout=5):
                break
            url = auth.make_url("/api/auth/validate").with_query(token=CANARY)
            async with http.post(url, headers={"Authorization": f"Bearer {CANARY}"}):
                pass
            return web.Response()

        client = await serve(it, web.get("/api/sessions/{session_id}", handler))
        response = await client.get(
            f"/api/sessions/1?token={CANARY}", headers=PARENT | {"Authorization": f"Bearer {CANARY}"}
        )
        assert response.status == 200
        for closing in (client.close(), http.close(), channel.close(), cache.aclose(), connection.close()):
            await closing
    finally:
        await auth.close()
        await server.stop(None)
        await valkey.stop()
        await postgres.stop()
        postgres.close()

    spans = exporter.get_finished_spans()
    request_span = named(exporter)["GET /api/sessions/{session_id}"]
    children = [span for span in spans if span.parent and span.parent.span_id == request_span.context.span_id]
    systems = {
        (span.attributes or {}).get("db.system") or (span.attributes or {}).get("rpc.system") or "http"
        for span in children
    }
    assert systems == {"postgresql", "redis", "grpc", "http"}
    assert {f"{span.context.trace_id:032x}" for span in children} == {TRACE_ID}
    assert TRACE_ID in exchange.metadata["traceparent"]
    assert TRACE_ID in auth_headers[0]
    everything = "".join(span.to_json() for span in spans)
    assert CANARY not in everything
    assert "StreamExchangeData" not in everything
    assert '"service.instance.id": "pod-1"' in everything


async def test_a_server_span_says_route_method_and_status(tracing: Traced) -> None:
    it, exporter = tracing

    async def refuses(_request: web.Request) -> web.Response:
        raise web.HTTPConflict

    async def breaks(_request: web.Request) -> web.Response:
        raise ValueError(CANARY)

    client = await serve(it, web.post("/refuses", refuses), web.get("/breaks", breaks))
    await client.post("/refuses", headers=PARENT)
    await client.get("/breaks")
    await client.get(f"/nowhere/{CANARY}")
    await client.request("PROPFIND", "/refuses")
    await client.close()
    spans = named(exporter)
    assert set(spans) == {"POST /refuses", "GET /breaks", "GET", "HTTP"}
    refused, broken = spans["POST /refuses"], spans["GET /breaks"]
    assert refused.kind is SpanKind.SERVER
    assert dict(refused.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/refuses",
        "http.response.status_code": 409,
    }
    assert f"{refused.context.trace_id:032x}" == TRACE_ID
    assert refused.status.status_code is StatusCode.UNSET
    assert broken.status.status_code is StatusCode.ERROR
    assert (broken.attributes or {})["error.type"] == "ValueError"
    assert CANARY not in "".join(span.to_json() for span in exporter.get_finished_spans())


@pytest.mark.parametrize(
    "path", ["/ws", "/health", "/readiness", "/metrics", "/api/sessions/{session_id}/events", "/api/v1/x/events"]
)
async def test_probes_and_long_connections_have_no_span(tracing: Traced, path: str) -> None:
    it, exporter = tracing

    async def handler(_request: web.Request) -> web.Response:
        return web.Response()

    client = await serve(it, web.get(path, handler))
    assert (await client.get(path.replace("{session_id}", "1"))).status == 200
    await client.close()
    assert exporter.get_finished_spans() == ()


async def test_closing_takes_the_instrumentation_off() -> None:
    exporter = InMemorySpanExporter()
    it = Tracing.start({}, "pod-1", span_exporter=exporter)
    await it.close()
    await it.close()
    assert it.middleware() is None
    server = TestServer(web.Application())
    await server.start_server()
    async with aiohttp.ClientSession() as http, http.get(server.make_url("/")):
        pass
    await server.close()
    assert exporter.get_finished_spans() == ()


async def test_a_collector_that_is_away_does_not_hold_up_the_end() -> None:
    program = """
import asyncio, os, time
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from session_service.telemetry.tracing import Tracing

async def main():
    tracing = Tracing.start(os.environ, "pod-1")
    app = web.Application(middlewares=[tracing.middleware()])
    async with TestClient(TestServer(app)) as client:
        await client.get("/")
    started = time.monotonic()
    await tracing.close(timeout_s=0.5)
    print(time.monotonic() - started)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert float(output.splitlines()[-1]) < 2


@pytest.mark.parametrize(
    "environ",
    [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_SDK_DISABLED": "true"}],
)
async def test_off_means_off(environ: dict[str, str]) -> None:
    before = trace.get_tracer_provider()
    it = Tracing.start(environ, "pod-1")
    assert it.middleware() is None
    await it.close()
    assert trace.get_tracer_provider() is before


def test_off_costs_no_import() -> None:
    program = (
        "import sys\n"
        "from session_service.telemetry.tracing import Tracing\n"
        "Tracing.start({}, 'pod-1')\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
