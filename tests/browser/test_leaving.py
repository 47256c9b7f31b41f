"""Who may not go on: a refused token, a session that was ended elsewhere. The page says so, and stays away."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.support.local_run import LocalRun
from tests.support.trading_page import TradingPage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_session_that_was_ended_elsewhere(trader: TradingPage, run: LocalRun, user_id: str) -> None:
    assert (await run.api(user_id).call("DELETE", "/api/sessions"))[0] == 200
    await trader.link_is("closed")
    await expect(trader.find("notice-words")).to_contain_text("ended")
    assert len(trader.sockets.established) == 1
    await trader.find("notice-action").click()  # a new session, because somebody asked for it
    await trader.link_is("open")
    first, second = (socket.connected or {} for socket in trader.sockets.established)
    assert first["sessionId"] != second["sessionId"]
    assert len(trader.sockets.sockets) == 2, "it had tried by itself"
