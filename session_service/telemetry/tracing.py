"""OpenTelemetry traces: a REST request down to its SQL, Redis, gRPC and HTTP calls. Off unless an endpoint is set.

Nothing of OpenTelemetry is imported while it is off, and no global provider is ever set. Context comes in and goes
out in the header ``traceparent`` (W3C Trace Context).

No span has a query string, a header, a body or an SQL parameter, so no token either. Spans of things that live as
long as a connection (the WebSocket, server-sent events, the simulator's stream) are not made: they would end with it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

if TYPE_CHECKING:  # at run time only where tracing is on: the SDK and the exporter are slow to import
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

log = structlog.get_logger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_UNTRACED_ROUTES = frozenset({"/ws", "/health", "/readiness", "/metrics"})
_STREAMING_CALL = "StreamExchangeData"


class _Instrumentor(Protocol):
    def instrument(self, **kwargs: Any) -> Any: ...

    def uninstrument(self, **kwargs: Any) -> Any: ...


class Tracing:
    """The tracing of this process, on or off. Made by ``start`` before the clients that it shall see are made."""

    def __init__(self, provider: TracerProvider | None, instrumentors: tuple[_Instrumentor, ...]) -> None:
        self._provider = provider
        self._instrumentors = instrumentors

    @classmethod
    def start(
        cls, environ: Mapping[str, str], pod_name: str, *, span_exporter: SpanExporter | None = None
    ) -> Tracing:
        """Turn tracing on where an OTLP endpoint is configured (or a ``span_exporter`` is given: spans then reach it
        at once, not in batches).

        The SDK reads the other OTEL_* variables by itself, from the process's environment. The exporter speaks OTLP
        over gRPC. There must not be two that are on at a time in one process: libraries are instrumented as a whole.
        """
        disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        if span_exporter is None and (disabled or not any(environ.get(variable) for variable in _ENDPOINTS)):
            return cls(None, ())
        return cls._on(environ, pod_name, span_exporter)

    @classmethod
    def _on(cls, environ: Mapping[str, str], pod_name: str, span_exporter: SpanExporter | None) -> Tracing:
        from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
        from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, filters
        from opentelemetry.instrumentation.redis import RedisInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        name = environ.get("OTEL_SERVICE_NAME") or "session-service"
        provider = TracerProvider(
            resource=Resource.create({"service.name": name, "service.instance.id": pod_name}),
            shutdown_on_exit=False,  # `close` does it, within its limit
        )
        if span_exporter is None:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        else:
            provider.add_span_processor(SimpleSpanProcessor(span_exporter))

        untraced_streams = filters.negate(filters.method_name(_STREAMING_CALL))
        instrumentors: tuple[tuple[_Instrumentor, dict[str, Any]], ...] = (
            (AsyncPGInstrumentor(), {}),  # type: ignore[no-untyped-call] # the package has no annotations
            (RedisInstrumentor(), {}),
            (AioHttpClientInstrumentor(), {"url_filter": _without_secrets}),
            (GrpcAioInstrumentorClient(filter_=untraced_streams), {}),  # type: ignore[no-untyped-call] # as above
        )
        for instrumentor, options in instrumentors:
            instrumentor.instrument(tracer_provider=provider, **options)
        log.info("tracing_on", service=name)
        return cls(provider, tuple(instrumentor for instrumentor, _options in instrumentors))

    def middleware(self) -> Middleware | None:
        """The aiohttp server's ``tracing_middleware``, to stand outermost, or None where tracing is off."""
        return None if self._provider is None else tracing_middleware(self._provider.get_tracer(__name__))

    async def close(self, timeout_s: float = 3.0) -> None:
        """Take the instrumentation off and send what is left, at most ``timeout_s``. Idempotent.

        A collector that does not answer costs the last spans, not the end of the process.
        """
        provider, self._provider = self._provider, None
        if provider is None:
            return
        for instrumentor in self._instrumentors:
            instrumentor.uninstrument()
        if not await _in_daemon_thread(provider.shutdown, timeout_s):
            log.warning("tracing_close_timed_out", timeout_s=timeout_s)


def tracing_middleware(tracer: Tracer) -> Middleware:
    """A server span for each request of a traced route, named ``METHOD /route/{template}``.

    Own, since the instrumentation package for aiohttp's server writes the query string into its spans and works only
    by replacing ``web.Application`` for the whole process.
    """
    from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()

    @web.middleware
    async def tracing_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = _route(request)
        if not _is_traced(route):
            return await handler(request)
        headers = {name: request.headers[name] for name in ("traceparent", "tracestate") if name in request.headers}
        method = request.method if request.method in _METHODS else "HTTP"
        with tracer.start_as_current_span(
            f"{method} {route}" if route else method,
            context=propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method} | ({"http.route": route} if route else {}),
            record_exception=False,  # an exception's text may hold what the request held
            set_status_on_exception=False,
        ) as span:
            status = 500
            trace_id = format_trace_id(span.get_span_context().trace_id)
            try:
                with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                    response = await handler(request)
                status = response.status
            except web.HTTPException as answer:
                status = answer.status
                raise
            except Exception as error:  # only to be named in the span; it goes on
                span.set_attribute("error.type", type(error).__name__)
                raise
            finally:
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
        return response

    return tracing_middleware


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _route(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def _is_traced(route: str | None) -> bool:
    # Every route that ends in /events is a stream of server-sent events.
    return route is None or not (route in _UNTRACED_ROUTES or route.endswith("/events"))


def _without_secrets(url: URL) -> str:
    return str(url.with_query(None).with_fragment(None).with_user(None))


async def _in_daemon_thread(function: Callable[[], None], timeout_s: float) -> bool:
    """Whether ``function`` ended in time. Unlike an executor's thread, a daemon cannot hold up the exit."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def run() -> None:
        try:
            function()
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=run, name="tracing-close", daemon=True).start()
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return False
    return True
