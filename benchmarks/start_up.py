"""Start-up: from a built environment to the ready line; a simulator from request to its first update (row 14)."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from benchmarks.local_run import LocalRun
from benchmarks.support import report

STARTS = 3
SIMULATORS = 5


async def first_update_s(run: LocalRun, user: str) -> float:
    """Seconds from sending ``start_simulator`` to the first exchange data, over one open socket."""
    async with (
        aiohttp.ClientSession(headers=run.bearer(user)) as http,
        http.ws_connect(f"{run.url}/ws?deviceId=bench") as ws,
    ):
        began_s = time.monotonic()
        await ws.send_str('{"type":"start_simulator","requestId":"1"}')
        async for message in ws:
            if json.loads(message.data)["type"] == "exchange_data":
                return time.monotonic() - began_s
    raise RuntimeError("the socket was closed before any exchange data came")


async def simulators_s(run: LocalRun) -> list[float]:
    return [await first_update_s(run, f"user-{number}") for number in range(SIMULATORS)]


def main() -> None:
    later, simulators, first = [], [], 0.0
    with TemporaryDirectory() as directory:
        for number in range(STARTS):
            with LocalRun(data_dir=Path(directory) / "data") as run:
                if number == 0:
                    first = run.ready_s
                else:
                    later.append(run.ready_s)
                simulators += asyncio.run(simulators_s(run))
    figures = {
        "first_start_s": round(first, 2),
        "later_start_s": round(statistics.median(later), 2),
        "simulator_first_update_median_s": round(statistics.median(simulators), 3),
        "simulator_first_update_max_s": round(max(simulators), 3),
        "goal_start_s": 5.0,
        "goal_first_update_s": 1.0,
    }
    report("start_up", ("aiohttp", "asyncpg", "grpcio"), figures)


if __name__ == "__main__":
    main()
