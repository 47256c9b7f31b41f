"""200 readers that stop reading: bounded memory, 4008 or an abort, and every descriptor comes back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.support.api_client import ApiClient
from tests.support.followers import Follower
from tests.support.measured import Measured
from tests.support.pod_process import pod_process
from tests.support.servers import Database, TestServers
from tests.support.service import bearer
from tests.support.stalled_reader import StalledReader
from tests.support.waiting import eventually
from tests.support.workloads import shared_exchange

READERS = 200
OF_ONE_SESSION = 8
CAP_BYTES = 512 * 1024  # what may wait for one reader: unsent bytes, its pending merge, the connection itself
# 10 s without progress, after what the kernel took. A socket that is only silent would go after 40 s.
CUT_WITHIN_S = 35.0


async def test_200_readers_that_stop(
    servers: TestServers, database: Database, tmp_path: Path, measured: Measured
) -> None:
    users = [f"user-{number}" for number in range(READERS // OF_ONE_SESSION)]
    async with shared_exchange(tmp_path, UPDATE_INTERVAL_MS="50") as exchange:
        environ = {**database.environ(), **servers.redis_environ(), **exchange.environ}
        async with pod_process(tmp_path, environ) as pod, AsyncExitStack() as exits:
            await pod.is_ready()
            for user in [*users, "reader"]:
                api = ApiClient(pod.http, user)
                await api.start_simulator(await api.open_session("stalled" if user != "reader" else "device-1"))
            reader = await exits.enter_async_context(Follower(pod.http, "reader"))
            await reader.at_least(20, within_s=30)
            memory, descriptors = pod.rss_bytes, pod.descriptors
            reader.longest_gap_s = 0.0
            began = time.monotonic()
            stalled = [
                await exits.enter_async_context(StalledReader.connected(pod.port, bearer(user)))
                for user in users
                for _ in range(OF_ONE_SESSION)
            ]
            assert pod.descriptors >= descriptors + READERS
            peak_bytes = 0

            async def all_are_cut() -> bool:
                nonlocal peak_bytes
                peak_bytes = max(peak_bytes, pod.rss_bytes)
                return pod.descriptors <= descriptors + 5

            await eventually(all_are_cut, within_s=CUT_WITHIN_S, what="the end of every stalled reader")
            cut_after_s = time.monotonic() - began
            assert all(await asyncio.gather(*(one.is_closed(within_s=30) for one in stalled)))
            reader.check()
            assert reader.connections == 1, reader.close_codes
            measured.row(
                f"{READERS} readers that stop",
                growth_mb=round((peak_bytes - memory) / 2**20, 1),
                cut_after_s=round(cut_after_s, 1),
                longest_gap_of_another_s=round(reader.longest_gap_s, 2),
            )
            assert peak_bytes - memory <= READERS * CAP_BYTES
            assert reader.longest_gap_s <= 1.5
