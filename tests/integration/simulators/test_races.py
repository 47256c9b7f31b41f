"""Starts, stops and ends of sessions at once: afterwards the workloads are exactly the rows that are to run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from session_service.simulators.backend import WorkloadPhase
from tests.support.api_client import ApiClient
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually

SESSIONS = 6


async def test_whatever_the_order_no_workload_is_left_over_and_none_is_missing(
    make_service: Callable[..., Any], sql: Sql
) -> None:
    random_ = random.Random(11)
    service: Service = await make_service(MAX_SIMULATORS_PER_USER="100", MAX_SESSIONS_PER_USER="100")
    api = ApiClient(service.http)
    statuses: Counter[tuple[str, int]] = Counter()

    async def call(method: str, path: str, **options: Any) -> dict[str, Any]:
        await asyncio.sleep(random_.uniform(0, 0.3))
        status, body = await api.call(method, path, **options)
        statuses[method, status] += 1
        return body

    async def life(number: int) -> None:
        session_id = await api.open_session(f"device-{number}")
        start = {"json": {"sessionId": session_id}}
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(call("POST", "/api/simulators", **start))
            group.create_task(call("DELETE", f"/api/simulators?sessionId={session_id}"))
            group.create_task(call("POST", "/api/simulators", **start))
            if number % 2:
                group.create_task(call("DELETE", f"/api/sessions/{session_id}"))

    await asyncio.gather(*(life(number) for number in range(SESSIONS)))
    assert not [key for key in statuses if key[1] >= 500], statuses

    database_id = await service.server._database.orphans.database_id()

    async def they_agree() -> bool:
        rows = await sql.fetch("SELECT simulator_id, status FROM simulator.instances WHERE target = 'RUNNING'")
        if any(row["status"] != "RUNNING" for row in rows):
            return False
        workloads = await service.server._backend.list(database_id)
        return {row["simulator_id"] for row in rows} == {
            workload.simulator_id for workload in workloads if workload.phase is not WorkloadPhase.FAILED
        } and not await sql.fetchval("SELECT EXISTS (SELECT 1 FROM simulator.teardowns)")

    await eventually(they_agree, within_s=30, what="workloads = rows")
    assert await sql.fetchval("SELECT count(*) FROM session.active_sessions") == SESSIONS // 2


async def test_users_at_once_never_deadlock(make_service: Callable[..., Any], sql: Sql) -> None:
    """Every kind of write of one user's few sessions, all at once, many times."""
    service: Service = await make_service(
        SIMULATOR_BACKEND="service", EXCHANGE_MANAGER_SERVICE="127.0.0.1:1", MAX_SESSIONS_PER_USER="2"
    )
    api = ApiClient(service.http)
    statuses: Counter[int] = Counter()

    async def work(number: int) -> None:
        random_ = random.Random(number)
        for _ in range(15):
            status, body = await api.call("POST", "/api/sessions", json={"deviceId": f"d{random_.randrange(4)}"})
            statuses[status] += 1
            session_id = body.get("sessionId", "none")
            for method, path, json in random_.sample(
                [
                    ("POST", "/api/simulators", {"sessionId": session_id}),
                    ("POST", f"/api/sessions/{session_id}/keepalive", None),
                    ("POST", f"/api/sessions/{session_id}/reconnect", {"deviceId": "d0", "attempt": 1}),
                    ("GET", f"/api/sessions/{session_id}", None),
                    ("DELETE", f"/api/simulators?sessionId={session_id}", None),
                    ("DELETE", f"/api/sessions/{session_id}", None),
                ],
                k=4,
            ):
                statuses[(await api.call(method, path, json=json))[0]] += 1

    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    await asyncio.gather(*(work(number) for number in range(16)))
    assert not [status for status in statuses if status >= 500], statuses
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    assert await sql.fetchval(deadlocks) == 0
