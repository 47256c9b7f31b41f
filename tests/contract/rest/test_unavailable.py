"""PostgreSQL away: 503 with Retry-After, never a 500; liveness stays; everything is back afterwards."""

from __future__ import annotations

import asyncio
import time

from tests.support.outages import no_database
from tests.support.servers import Database, TestServers
from tests.support.service import Service, bearer
from tests.support.stalls import Stalls

LIMIT_S = 3.5  # the longest request (3 s), and what a busy machine adds


async def test_without_the_database(
    service: Service, servers: TestServers, database: Database, stalls: Stalls
) -> None:
    async with service.http.post("/api/sessions", json={"deviceId": "d"}, headers=bearer()) as response:
        session_id = (await response.json())["sessionId"]
    calls = [
        ("POST", "/api/sessions"),
        ("GET", "/api/sessions"),
        ("GET", f"/api/sessions/{session_id}"),
        ("POST", f"/api/sessions/{session_id}/keepalive"),
        ("DELETE", f"/api/sessions/{session_id}"),
        ("DELETE", "/api/sessions"),
        ("GET", f"/api/simulators?sessionId={session_id}"),
        ("GET", "/api/simulators/any"),
    ]
    async with no_database(servers, database):
        for method, path in calls:
            started = time.monotonic()
            body = {"deviceId": "d"} if method == "POST" else None
            async with service.http.request(method, path, json=body, headers=bearer()) as response:
                answer = await response.json()
                assert (response.status, answer["code"]) == (503, "SERVICE_UNAVAILABLE"), path
                assert int(response.headers["Retry-After"]) >= 1
            assert stalls.took_s(started) < LIMIT_S, path
        async with service.http.get("/health") as response:
            assert response.status == 200
        async with service.http.get("/readiness") as response:
            body = await response.json()
            assert (response.status, body["status"], body["checks"]["database"]) == (503, "NOT_READY", "DOWN")
    async with asyncio.timeout(30):
        while True:
            async with service.http.get(f"/api/sessions/{session_id}", headers=bearer()) as response:
                if response.status == 200:
                    break
                assert response.status == 503
            await asyncio.sleep(0.05)
