"""``make screenshot``: the page of a local run as the README shows it, after some trading and a killed pod.

Writes an SVG of the whole page, 1,280 pixels wide: what Chromium prints, text as outlines, so that it looks the same
wherever it is shown, and is text in the repository. ``--dark``: in dark colours. Needs the page, Chromium, and
pdftocairo (Debian: poppler-utils).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.chromium import NAMES, chromium, chromium_path
from tests.support.local_run import local_run
from tests.support.trading_page import TradingPage, opened_page

DEFAULT_FILE = Path("docs/images/page.svg")
CONVERTER = "pdftocairo"
SIZE = {"width": 1280, "height": 1100}
CHART_MS = 50_000  # what the chart shows is a minute long
AFTERWARDS_MS = 10_000


async def main() -> int:
    parser = argparse.ArgumentParser(description="A screenshot of the page")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    if chromium_path() is None:
        print(f"none of {', '.join(NAMES)} is on the PATH", file=sys.stderr)
        return 1
    if shutil.which(CONVERTER) is None:
        print(f"{CONVERTER} is not on the PATH (Debian: poppler-utils)", file=sys.stderr)
        return 1
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        async with (
            local_run(Path(directory) / "data", pods=3) as run,
            chromium() as browser,
            opened_page(
                browser,
                run.url,
                viewport=SIZE,
                color_scheme="dark" if arguments.dark else "light",
            ) as trader,
        ):
            await _trade(trader)
            await trader.page.wait_for_timeout(CHART_MS)
            await trader.find("kill-pod").click()
            await trader.counter_reaches("reconnects", 1)
            await trader.page.wait_for_timeout(AFTERWARDS_MS)
            printed = Path(directory) / "page.pdf"
            await _print(trader, printed)
        arguments.file.write_text(_drawing(printed), encoding="utf-8")
    return 0


async def _print(trader: TradingPage, file: Path) -> None:
    """One sheet, as large as the page."""
    await trader.page.emulate_media(media="screen")
    height = await trader.page.evaluate("document.documentElement.scrollHeight")
    await trader.page.pdf(path=file, print_background=True, width=f"{SIZE['width']}px", height=f"{height + 1}px")


def _drawing(printed: Path) -> str:
    """As SVG, lengths to a hundredth of a point: what is finer nobody sees, and it is a third of the file."""
    target = printed.with_suffix(".svg")
    subprocess.run([CONVERTER, "-svg", printed, target], check=True)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", target.read_text(encoding="utf-8"))


async def _trade(trader: TradingPage) -> None:
    await trader.quotes_come()
    for symbol, quantity in (("AAPL", 100), ("MSFT", 40), ("TSLA", 60)):
        await trader.order("BUY", symbol, quantity)
        await trader.row("positions", symbol).wait_for()
    await trader.order("SELL", "TSLA", 20)
    await trader.order("BUY", "GOOGL", 25, limit=138.0)
    await trader.row("open-orders", "GOOGL").wait_for()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
