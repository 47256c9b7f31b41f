"""A pod whose simulators live in an exchange of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from exchange_simulator.server import serving
from exchange_simulator.settings import Settings as ExchangeSettings
from tests.support.service import Service


@pytest.fixture
async def exchange_port() -> AsyncIterator[int]:
    settings = ExchangeSettings(host="127.0.0.1", port=0, seed=7, update_interval_ms=50)
    async with serving(settings) as (port, _ticking):
        yield port


@pytest.fixture
async def trading_service(exchange_port: int, make_service: Callable[..., object]) -> Service:
    """A pod with an exchange: its sessions can start simulators."""
    made: Service = await make_service(  # type: ignore[misc]  # a fixture's callable is typed loosely
        SIMULATOR_BACKEND="service", EXCHANGE_MANAGER_SERVICE=f"127.0.0.1:{exchange_port}"
    )
    return made
