"""The calls that most tests make of a pod's REST API, as a user."""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.support.service import bearer
from tests.support.waiting import eventually

STARTED_WITHIN_S = 40.0


class ApiClient:
    """One user's calls. ``call`` returns status and body; the others insist on success."""

    def __init__(self, http: aiohttp.ClientSession, user_id: str = "user-1", *, scope: str = "") -> None:
        self.http = http
        self.user_id = user_id
        self.headers = bearer(user_id, scope=scope)

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        async with self.http.request(method, path, headers=self.headers, **options) as response:
            body: dict[str, Any] = await response.json()
            return response.status, body

    async def open_session(self, device_id: str = "device-1") -> str:
        status, body = await self.call("POST", "/api/sessions", json={"deviceId": device_id})
        assert status in {200, 201}, body
        session_id: str = body["sessionId"]
        return session_id

    async def session(self, session_id: str) -> dict[str, Any]:
        status, body = await self.call("GET", f"/api/sessions/{session_id}")
        assert status == 200, body
        session: dict[str, Any] = body["session"]
        return session

    async def simulator(self, simulator_id: str) -> dict[str, Any]:
        status, body = await self.call("GET", f"/api/simulators/{simulator_id}")
        assert status == 200, body
        simulator: dict[str, Any] = body["simulator"]
        return simulator

    async def start_simulator(self, session_id: str, **fields: Any) -> str:
        """Start one and wait until it runs; its id."""
        status, body = await self.call("POST", "/api/simulators", json={"sessionId": session_id, **fields})
        assert status in {200, 202}, body
        simulator_id: str = body["simulatorId"]
        await self.simulator_is(simulator_id, "RUNNING")
        return simulator_id

    async def simulator_is(
        self, simulator_id: str, *statuses: str, within_s: float = STARTED_WITHIN_S
    ) -> dict[str, Any]:
        """Wait until the simulator has one of these statuses."""
        seen: dict[str, Any] = {}

        async def has_come() -> bool:
            seen.update(await self.simulator(simulator_id))
            return seen["status"] in statuses

        await eventually(has_come, within_s=within_s, what=f"simulator {statuses}, it is {seen}")
        return seen

    async def order(self, simulator_id: str, request_id: str, **fields: Any) -> dict[str, Any]:
        order = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "orderType": "MARKET", "requestId": request_id}
        status, body = await self.call("POST", f"/api/simulators/{simulator_id}/orders", json={**order, **fields})
        assert status == 200, body
        return body
