"""The simulator's process: start, health, signals."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from exchange_api import exchange_pb2 as pb
from exchange_api.exchange_pb2_grpc import ExchangeSimulatorStub

DEADLINE_S = 30.0


@asynccontextmanager
async def process(**environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "exchange_simulator",
        env={**os.environ, "HOST": "127.0.0.1", "PORT": "0", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def port_of(started: asyncio.subprocess.Process) -> int:
    assert started.stdout is not None
    line = (await asyncio.wait_for(started.stdout.readline(), DEADLINE_S)).decode()
    announced = re.fullmatch(r"exchange-simulator listening on 127\.0\.0\.1:(\d+)\n", line)
    assert announced, line
    return int(announced[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_streams_and_process_orderly(number: signal.Signals) -> None:
    async with process(SIMULATOR_TOKEN="secret", SESSION_ID="s", SIMULATOR_ID="sim") as started:
        port = await port_of(started)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", "exchange.ExchangeSimulator"):
                question = health_pb2.HealthCheckRequest(service=service)
                answer = await health.Check(question, timeout=DEADLINE_S)  # type: ignore[attr-defined] # untyped
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            client = ExchangeSimulatorStub(channel)
            token = (("x-simulator-token", "secret"),)
            start = pb.StartSimulatorRequest(session_id="s")
            assert (await client.StartSimulator(start, metadata=token, timeout=DEADLINE_S)).simulator_id == "sim"
            call = client.StreamExchangeData(pb.StreamRequest(session_id="s"), metadata=token)
            updates = aiter(call)
            assert (await anext(updates)).snapshot
            started.send_signal(number)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in updates:
                    pass
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        rest, log = await asyncio.wait_for(started.communicate(), DEADLINE_S)
        assert started.returncode == 0
        assert rest == b""
        assert b"secret" not in log
        events = [json.loads(line)["event"] for line in log.splitlines()]
        assert events == ["session started", "session dropped: shutdown"]


async def test_an_unusable_setting_ends_with_two_and_one_line() -> None:
    async with process(PORT="eighty") as started:
        output, errors = await asyncio.wait_for(started.communicate(), DEADLINE_S)
    assert started.returncode == 2
    assert output == b""
    assert errors.decode().splitlines() == [
        "exchange-simulator: PORT must be a whole number from 0 to 65535, not 'eighty'"
    ]


async def test_a_port_in_use_ends_with_one() -> None:
    async with process() as first:
        port = await port_of(first)
        async with process(PORT=str(port)) as second:
            _, errors = await asyncio.wait_for(second.communicate(), DEADLINE_S)
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in errors.decode()


async def test_frequent_pings_without_calls_are_no_offence() -> None:
    options = [
        ("grpc.keepalive_time_ms", 1_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with process(UPDATE_INTERVAL_MS="60000") as started:
        port = await port_of(started)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            client = ExchangeSimulatorStub(channel)
            await client.StartSimulator(pb.StartSimulatorRequest(session_id="s"), timeout=DEADLINE_S)
            call = client.StreamExchangeData(pb.StreamRequest(session_id="s"))
            await call.read()
            # A server that minds pings says GOAWAY after the third; the stream would end with it.
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(call.read(), 5)
