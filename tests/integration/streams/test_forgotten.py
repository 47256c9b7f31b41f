"""A simulator that is forgotten while it is being talked to: the callers hear that it is away, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from session_service.clients.exchange import ExchangeClient
from session_service.domain.simulator import SimulatorAddress
from session_service.errors import ExchangeUnavailableError
from tests.integration.streams.conftest import until


@pytest.fixture
async def mute() -> AsyncIterator[SimulatorAddress]:
    """The address of an exchange that takes every call and never answers."""

    async def keep(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await asyncio.sleep(3_600)
        return b""

    async def keep_stream(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        await asyncio.sleep(3_600)
        yield b""

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Heartbeat": grpc.unary_unary_rpc_method_handler(keep),
        "StreamExchangeData": grpc.unary_stream_rpc_method_handler(keep_stream),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("exchange.ExchangeSimulator", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield SimulatorAddress("session-1", "simulator-1", f"127.0.0.1:{port}", "")
    await server.stop(None)


async def heartbeat(client: ExchangeClient, address: SimulatorAddress) -> None:
    await client.heartbeat(address)


async def first_update(client: ExchangeClient, address: SimulatorAddress) -> None:
    await anext(client.stream(address, "client-1", 0, 0))


async def under_way(client: ExchangeClient, address: SimulatorAddress) -> None:
    """Until the call has reached the exchange: the channel is connected then."""
    await until(lambda: bool(client._channels))
    channel = client._channels[address.endpoint].channel
    await until(lambda: channel.get_state() is grpc.ChannelConnectivity.READY)


@pytest.mark.parametrize("call", [heartbeat, first_update])
async def test_a_call_under_way_fails_as_unavailable_and_is_not_cancelled(
    exchange: ExchangeClient, mute: SimulatorAddress, call: object
) -> None:
    assert callable(call)
    task = asyncio.ensure_future(call(exchange, mute))
    await under_way(exchange, mute)
    exchange.forget(mute.simulator_id)
    await asyncio.wait([task], timeout=10)
    assert not task.cancelled()
    assert isinstance(task.exception(), ExchangeUnavailableError)


@pytest.mark.parametrize("call", [heartbeat, first_update])
async def test_a_caller_that_is_cancelled_is_cancelled(
    exchange: ExchangeClient, mute: SimulatorAddress, call: object
) -> None:
    assert callable(call)
    task = asyncio.ensure_future(call(exchange, mute))
    await under_way(exchange, mute)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
