"""The service's own state, in fake time."""

import asyncio

import pytest

from exchange_api.exchange_pb2 import StartSimulatorRequest
from exchange_simulator.caller import Caller
from exchange_simulator.fence import OwnerFence
from exchange_simulator.service import ExchangeSimulatorService
from exchange_simulator.sessions import Sessions
from exchange_simulator.settings import Settings

A_WEEK_S = 7 * 86_400.0


@pytest.mark.looptime
async def test_a_process_that_nobody_has_asked_for_yet_waits_as_long_as_it_has_to() -> None:
    """The time to live is a session's: it counts from StartSimulator."""
    loop = asyncio.get_running_loop()
    settings = Settings(single_session=True, simulator_id="sim", heartbeat_ttl_s=5.0)
    sessions = Sessions(settings, loop.time)
    service = ExchangeSimulatorService(settings, sessions, loop, fence=OwnerFence())
    ticking = asyncio.create_task(sessions.ticker.run())
    await asyncio.sleep(A_WEEK_S)
    assert not ticking.done()
    assert service.start(StartSimulatorRequest(session_id="first"), Caller()).success
    await asyncio.sleep(4.0)
    assert sessions.find("first") is not None
    await asyncio.sleep(4.0)
    assert sessions.find("first") is None
    ticking.cancel()
    await asyncio.wait([ticking])
