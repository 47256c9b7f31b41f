"""PostgreSQL away: every route says 503 and when to come again, and is back afterwards."""

from __future__ import annotations

import pytest

from session_service.api.openapi import OPERATIONS
from tests.support.outages import no_database
from tests.support.sandbox_client import PATH, SandboxClient
from tests.support.servers import Database, TestServers
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

UUID = "00000000-0000-4000-8000-000000000000"
BODY = {"worker": "w", "message": 1, "claim": UUID, "visibilitySeconds": 1, "inbox_status": None, "waitSeconds": 1}


async def test_without_the_database_calls_may_come_again(
    client: SandboxClient, servers: TestServers, database: Database
) -> None:
    made = await client.create()
    checked = 0
    async with no_database(servers, database):
        for operation in OPERATIONS:
            if not operation.path.startswith(PATH):
                continue
            path = operation.path.removeprefix(PATH).format(session_id=made["id"])
            async with client.request(operation.method, path, json=BODY if operation.body else None) as response:
                assert response.status == 503, (operation.method, path)
                assert int(response.headers["Retry-After"]) >= 1
                assert (await response.json())["code"] == "SERVICE_UNAVAILABLE"
            checked += 1
    assert checked == 12

    async def is_back() -> bool:
        return (await client.call("GET", f"/{made['id']}"))[0] == 200

    await eventually(is_back, within_s=20, what="the database answers again")
    assert await client.get(made["id"]) == made
