"""A simulator served in the test's own loop, over real gRPC."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from exchange_api.exchange_pb2_grpc import ExchangeSimulatorStub
from exchange_simulator.server import serving
from exchange_simulator.settings import Settings

if TYPE_CHECKING:  # the generated stubs have this class, the generated module does not
    from exchange_api.exchange_pb2_grpc import ExchangeSimulatorAsyncStub

    Serve = Callable[..., Awaitable[ExchangeSimulatorAsyncStub]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves with the given settings changed (ticks every 10 ms unless said) and returns a client of it."""
    async with AsyncExitStack() as stack:

        async def serve_with(**changes: Any) -> ExchangeSimulatorAsyncStub:
            settings = Settings(host="127.0.0.1", port=0, seed=1, update_interval_ms=10)
            port, _ = await stack.enter_async_context(serving(dataclasses.replace(settings, **changes)))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            return ExchangeSimulatorStub(channel)

        yield serve_with
