"""At every width: nothing reaches beyond the screen, no cell covers its neighbour, every button can be pressed."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser

from tests.support.local_run import LocalRun
from tests.support.trading_page import opened_page

pytestmark = pytest.mark.asyncio(loop_scope="session")

WIDTHS = (320, 360, 480, 768, 1024, 1240, 1280, 1440, 1920)
HEIGHT = 800
# Text that reaches beyond its cell. A pixel is rounding.
OVERFLOWING_CELLS = """() => [...document.querySelectorAll("td, th")].filter((cell) => cell.checkVisibility())
  .filter((cell) => {
    const box = cell.getBoundingClientRect(), range = document.createRange();
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const { parentElement } = texts.currentNode;
      if (!parentElement.checkVisibility() || parentElement.closest(".unseen")) continue;
      range.selectNodeContents(texts.currentNode);
      const text = range.getBoundingClientRect();
      if (text.right > box.right + 1 || text.left < box.left - 1) return true;
    }
    return false;
  }).map((cell) => `${cell.closest("table").id}: ${cell.innerText}`)"""
# What a press in the middle of each would hit, unless it is the button itself.
COVERED_BUTTONS = """() => [...document.querySelectorAll("button")].filter((button) => button.checkVisibility())
  .map((button) => {
    button.scrollIntoView({ block: "center", inline: "nearest" });
    const { x, y, width, height } = button.getBoundingClientRect();
    const hit = document.elementFromPoint(x + width / 2, y + height / 2);
    return button.contains(hit) ? null : `${button.innerText}: ${hit?.outerHTML.slice(0, 80)}`;
  }).filter((found) => found !== null)"""


async def test_everything_has_its_place(browser: Browser, run: LocalRun, user_id: str) -> None:
    async with opened_page(browser, run.url, user_id=user_id) as trader:
        await trader.quotes_come()
        await trader.order("BUY", "GOOGL", 10)
        await trader.row("positions", "GOOGL").wait_for()
        await trader.order("BUY", "GOOGL", 1234, limit=1.25)
        await trader.row("open-orders", "GOOGL").wait_for()
        await trader.process_of("pod-3")
        wrong: dict[int, Any] = {}
        for width in WIDTHS:
            await trader.page.set_viewport_size({"width": width, "height": HEIGHT})
            found = {
                "page_width": await trader.page.evaluate("document.documentElement.scrollWidth"),
                "overflowing": await trader.page.evaluate(OVERFLOWING_CELLS),
                "covered": await trader.page.evaluate(COVERED_BUTTONS),
            }
            if found != {"page_width": width, "overflowing": [], "covered": []}:
                wrong[width] = found
        assert wrong == {}
