"""1,000 sockets on one pod for five minutes: memory stays flat, and every socket sees every number.

250 sessions of as many users, four sockets each, on one exchange process that serves all of them (backend
``service``): 2,500 updates a second come in, 10,000 frames a second go out. SOAK_SECONDS [300] shortens it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time

import aiohttp
import msgspec
import psutil
import uvloop

from benchmarks.local_run import LocalRun
from benchmarks.support import report
from session_service.local.ports import free_port

SESSIONS = 250
SOCKETS_PER_SESSION = 4
HEARTBEAT_S = 10.0
SAMPLE_S = 5.0
SETTLE_S = 30.0  # caches fill; memory counts from here on


class Frame(msgspec.Struct, rename="camel"):
    """What the check needs of any server frame; other fields are skipped."""

    type: str
    epoch: int | None = None
    from_sequence: int = 0
    sequence: int | None = None
    snapshot: bool = False


class Tally:
    """What all sockets saw."""

    def __init__(self) -> None:
        self.frames = self.gaps = self.duplicates = self.snapshots = self.lost = self.refused = 0


async def follow(http: aiohttp.ClientSession, run: LocalRun, user: str, tally: Tally) -> None:
    """One client: connect, and come back after a 503, as the pod asks for under a storm."""
    while True:
        try:
            await follow_socket(http, run, user, tally)
        except aiohttp.WSServerHandshakeError as refusal:
            if refusal.status != 503:
                raise
            tally.refused += 1
            await asyncio.sleep(float(refusal.headers["Retry-After"]) if refusal.headers else 1.0)


async def follow_socket(http: aiohttp.ClientSession, run: LocalRun, user: str, tally: Tally) -> None:
    """One socket: read every frame, check the numbers, send heartbeats."""
    decode = msgspec.json.Decoder(Frame).decode
    epoch = sequence = 0
    url = f"{run.url}/ws?deviceId=soak"
    async with http.ws_connect(url, headers=run.bearer(user), max_msg_size=0) as ws:

        async def beat() -> None:
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                await ws.send_str('{"type":"heartbeat","timestamp":1,"deviceId":"soak"}')

        beats = asyncio.create_task(beat())
        try:
            async for message in ws:
                frame = decode(message.data)
                if frame.type != "exchange_data":
                    continue
                tally.frames += 1
                if frame.snapshot:
                    tally.snapshots += 1
                elif frame.epoch != epoch or frame.from_sequence > sequence + 1:
                    tally.gaps += 1
                elif frame.from_sequence <= sequence:
                    tally.duplicates += 1
                epoch, sequence = frame.epoch or 0, frame.sequence or 0
            tally.lost += 1  # the server closed it
        finally:
            beats.cancel()


async def measure(run: LocalRun, seconds: float) -> dict[str, object]:
    users = [f"soak-{number}" for number in range(SESSIONS)]
    tally = Tally()
    pod = psutil.Process(run.pod_pid)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        for user in users:
            body = {"deviceId": "soak"}
            async with http.post(f"{run.url}/api/sessions", json=body, headers=run.bearer(user)) as answer:
                answer.raise_for_status()
            async with http.post(f"{run.url}/api/simulators", json={}, headers=run.bearer(user)) as answer:
                answer.raise_for_status()
        sockets = [asyncio.create_task(follow(http, run, user, tally)) for user in users * SOCKETS_PER_SESSION]
        began_s = time.monotonic()
        cpu_before_s = sum(pod.cpu_times()[:2])
        rss: list[tuple[float, float]] = []
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            await asyncio.sleep(min(SAMPLE_S, seconds - elapsed_s))
            rss.append((time.monotonic() - began_s, pod.memory_info().rss / 2**20))
        cpu_s = sum(pod.cpu_times()[:2]) - cpu_before_s
        open_sockets = sum(not task.done() for task in sockets)
        for task in sockets:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*sockets, return_exceptions=True)
    settled = [megabytes for at_s, megabytes in rss if at_s >= min(SETTLE_S, seconds / 2)]
    return {
        "seconds": round(seconds),
        "sockets_at_the_end": open_sockets,
        "frames": tally.frames,
        "frames_per_s": round(tally.frames / seconds),
        "gaps": tally.gaps,
        "duplicates": tally.duplicates,
        "snapshots": tally.snapshots,
        "closed_by_the_server": tally.lost,
        "upgrades_refused_with_503": tally.refused,
        "pod_rss_mib_settled": round(settled[0], 1),
        "pod_rss_mib_end": round(settled[-1], 1),
        "pod_rss_mib_max": round(max(settled), 1),
        "pod_cpu_share_of_a_core": round(cpu_s / seconds, 3),
    }


def main() -> None:
    seconds = float(os.environ.get("SOAK_SECONDS", "300"))
    exchange_port = free_port()
    exchange = subprocess.Popen(
        [sys.executable, "-m", "exchange_simulator"],
        env={**os.environ, "HOST": "127.0.0.1", "PORT": str(exchange_port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    environ = {
        "SIMULATOR_BACKEND": "service",
        "EXCHANGE_MANAGER_SERVICE": f"127.0.0.1:{exchange_port}",
        "LOG_LEVEL": "WARNING",
    }
    try:
        with LocalRun(environ) as run:
            figures = uvloop.run(measure(run, seconds))
    finally:
        exchange.terminate()
        exchange.wait(timeout=10)
    report("soak", ("aiohttp", "grpcio"), figures)


if __name__ == "__main__":
    main()
