"""The process's gRPC server: composition of sessions, service and health, and its lifetime."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from exchange_simulator.fence import OwnerFence
from exchange_simulator.service import SERVICE_NAME, ExchangeSimulatorService
from exchange_simulator.sessions import Sessions
from exchange_simulator.settings import Settings

STOP_GRACE_S = 2.0
MAX_REQUEST_BYTES = 64 * 1024

SERVER_OPTIONS = (
    # A second process on the same port must fail, not share the first one's calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # Clients watch for frozen peers with frequent pings, also between calls: never GOAWAY for it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    # A client that vanished without a reset would keep its stream, and so its session, for ever.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class ListenError(OSError):
    """The address cannot be listened on."""


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[int, "asyncio.Task[None]"]]:
    """Serves while the context is open; yields the port and the task that moves the markets.

    On exit, streams end with UNAVAILABLE and calls under way get STOP_GRACE_S. Raises ListenError.
    """
    loop = asyncio.get_running_loop()
    sessions = Sessions(settings, loop.time)
    service = ExchangeSimulatorService(settings, sessions, loop, fence=OwnerFence())
    health_service = health.HealthServicer()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((service.handler(),))
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {host}:{settings.port}") from error
    for name in ("", SERVICE_NAME):
        await health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    ticking = asyncio.create_task(sessions.ticker.run(), name="ticker")
    try:
        yield port, ticking
    finally:
        await health_service.enter_graceful_shutdown()
        service.shut_down()
        await server.stop(STOP_GRACE_S)
        ticking.cancel()
        await asyncio.wait([ticking])
