"""A client that loses its connection a hundred times and trades meanwhile misses nothing and gets nothing twice."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

from tests.support.api_client import ApiClient
from tests.support.followers import Follower
from tests.support.measured import Measured
from tests.support.pod_process import pod_process
from tests.support.servers import Database, TestServers
from tests.support.waiting import eventually

DISCONNECTS = 100


async def test_a_hundred_disconnects_at_random_moments(
    servers: TestServers, database: Database, tmp_path: Path, measured: Measured
) -> None:
    random_ = random.Random(20_260_101)
    environ = {**database.environ(), **servers.redis_environ(), "UPDATE_INTERVAL_MS": "20"}
    async with pod_process(tmp_path, environ) as pod:
        await pod.is_ready()
        api = ApiClient(pod.http, "alice")
        simulator_id = await api.start_simulator(await api.open_session())
        answered: dict[str, dict[str, object]] = {}
        ending = asyncio.Event()

        async def trade() -> None:
            for number in itertools.count():
                if ending.is_set():
                    return
                side = "BUY" if number % 2 == 0 else "SELL"
                answer = await api.order(simulator_id, f"order-{number}", side=side, quantity=1 + number % 3 // 2)
                if answer["status"] != "REJECTED":
                    answered[str(answer["orderId"])] = answer
                await asyncio.sleep(0.02)

        async with Follower(pod.http, "alice") as follower:
            trading = asyncio.create_task(trade())
            await follower.at_least(3, within_s=30)
            first = follower.stream.sequence - follower.stream.covered
            for number in range(1, DISCONNECTS + 1):
                await asyncio.sleep(random_.uniform(0, 0.08))
                follower.drop()

                async def is_back(wanted: int = number + 1) -> bool:
                    follower.check()
                    return follower.connections >= wanted

                await eventually(is_back, within_s=30, what=f"connection {number + 1}")
            ending.set()
            await trading

            async def has_all_orders() -> bool:
                follower.check()
                return set(answered) <= set(follower.stream.orders)

            await eventually(has_all_orders, within_s=20, what="an update of every order")
            stream = follower.stream

        measured.row(
            f"{DISCONNECTS} disconnects of one client",
            updates=stream.covered,
            frames=stream.frames,
            not_resumed=follower.not_resumed,
            snapshots=stream.snapshots,
            orders=len(answered),
        )
        # Every number from the first snapshot on came exactly once: each frame was checked against the one before.
        assert stream.snapshots == 1
        assert follower.not_resumed == 0
        assert stream.sequence - first == stream.covered
        assert len(answered) >= 50
        for order_id, updates in stream.orders.items():
            numbers = [update["sequence"] for update in updates]
            assert len(set(zip(numbers, map(str, updates), strict=True))) == len(updates), order_id
            assert numbers == sorted(numbers), order_id
            filled = [update["filledQuantity"] for update in updates]
            assert filled == sorted(filled), order_id
        states = {
            order["orderId"]: order
            for order in (await api.call("GET", f"/api/simulators/{simulator_id}/orders"))[1]["orders"]
        }
        for order_id in answered:
            last = stream.orders[order_id][-1]
            assert (last["status"], last["filledQuantity"]) == (
                states[order_id]["status"],
                states[order_id]["filledQuantity"],
            )
