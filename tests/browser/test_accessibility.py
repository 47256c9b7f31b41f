"""Axe finds nothing to object to: signed in and out, in light and dark, at a desk and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.support.local_run import LocalRun
from tests.support.trading_page import TradingPage, opened_page

AXE = Path(__file__).parents[2] / "browser" / "node_modules" / "axe-core" / "axe.min.js"
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "rules": {"target-size": {"enabled": True}},
}

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not AXE.exists(), reason="axe is not installed: make browser"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_the_desk(browser: Browser, run: LocalRun, user_id: str, scheme: str, width: int) -> None:
    surroundings: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    async with opened_page(browser, run.url, user_id=user_id, bypass_csp=True, **surroundings) as trader:
        await trader.quotes_come()
        await trader.order("BUY", "AAPL", 10)
        await trader.row("positions", "AAPL").wait_for()
        await trader.order("BUY", "MSFT", 5, limit=1.0)
        await trader.row("open-orders", "MSFT").wait_for()
        assert await violations(trader) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_sign_in(browser: Browser, run: LocalRun, user_id: str, scheme: str) -> None:
    surroundings: dict[str, Any] = {"color_scheme": scheme}
    async with opened_page(browser, run.url, user_id=user_id, bypass_csp=True, **surroundings) as trader:
        await trader.find("sign-out").click()
        await trader.find("sign-in").wait_for()
        assert await violations(trader) == []


async def violations(trader: TradingPage) -> list[str]:
    """Each rule that is broken, with where."""
    await trader.page.add_script_tag(path=AXE)
    found: dict[str, Any] = await trader.page.evaluate("(rules) => axe.run(document, rules)", RULES)
    return [
        f"{one['id']} ({one['help']}): {[node['target'] for node in one['nodes']]}" for one in found["violations"]
    ]
