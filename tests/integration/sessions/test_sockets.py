"""session.sockets and what derives from it: status, counts, metadata (docs/lifecycle.md#sessions)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.support.api_client import ApiClient
from tests.support.service import Service, bearer
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import connect

SESSION = """
    SELECT a.status, (SELECT count(*) FROM session.sockets k WHERE k.session_id = a.session_id) AS sockets, m.metadata
    FROM session.active_sessions a JOIN session.session_metadata m USING (session_id)"""


async def session_becomes(sql: Sql, status: str, sockets: int, *, within_s: float = 20.0) -> dict[str, Any]:
    """Wait until the one session has this status and this many sockets; its metadata."""
    row: Any = None

    async def has_become() -> bool:
        nonlocal row
        row = await sql.fetchrow(SESSION)
        return row is not None and (row["status"], row["sockets"]) == (status, sockets)

    await eventually(has_become, within_s=within_s, what=f"{status} with {sockets} sockets")
    metadata: dict[str, Any] = json.loads(row["metadata"])
    return metadata


async def test_a_socket_counts_from_connected_to_close(service: Service, sql: Sql) -> None:
    async with connect(service, clientId="tab-1") as first:
        metadata = await session_becomes(sql, "ACTIVE", 1)
        assert metadata["frontend_connections"] == 1
        assert metadata["pod_name"] == "pod-under-test"
        assert metadata["device_id"] == "device-1"
        assert metadata["ip_address"] == "127.0.0.1"
        assert isinstance(metadata["last_ws_connection"], int)
        async with connect(service, clientId="tab-2"):
            assert (await session_becomes(sql, "ACTIVE", 2))["frontend_connections"] == 2
        assert (await session_becomes(sql, "ACTIVE", 1))["frontend_connections"] == 1
        await first.socket.close()
    metadata = await session_becomes(sql, "INACTIVE", 0)
    assert metadata["frontend_connections"] == 0
    assert isinstance(metadata["last_ws_disconnection"], int)


async def test_an_event_stream_counts_as_such(service: Service, api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    headers = {**bearer(), "Accept": "text/event-stream"}
    async with service.http.get(f"/api/sessions/{session_id}/events", headers=headers) as response:
        assert response.status == 200
        metadata = await session_becomes(sql, "ACTIVE", 1)
        assert (metadata["frontend_connections"], metadata["sse_connections"]) == (0, 1)
        assert isinstance(metadata["last_sse_connection"], int)
    # A browser that closes an event stream says nothing: it looks like one that was lost.
    assert (await session_becomes(sql, "RECONNECTING", 0))["sse_connections"] == 0


async def test_a_lost_socket_leaves_its_session_reconnecting_and_then_inactive(service: Service, sql: Sql) -> None:
    async with connect(service) as client:
        await session_becomes(sql, "ACTIVE", 1)
        connection = client.socket._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()
    await session_becomes(sql, "RECONNECTING", 0)
    await sql.execute("UPDATE session.active_sessions SET disconnected_at = now() - interval '100 s'")
    await service.server._sessions.session_ops.expire()
    assert await sql.fetchval("SELECT status FROM session.active_sessions") == "RECONNECTING"
    await sql.execute("UPDATE session.active_sessions SET disconnected_at = now() - interval '121 s'")
    await session_becomes(sql, "INACTIVE", 0)
    async with connect(service):  # resumable
        await session_becomes(sql, "ACTIVE", 1)


async def test_rows_lost_with_the_unlogged_table_are_written_again(
    make_service: Callable[..., Any], sql: Sql
) -> None:
    service: Service = await make_service(POD_LEASE_SECONDS="1")
    async with connect(service, clientId="tab-1"), connect(service, clientId="tab-2", attempt=7):
        await session_becomes(sql, "ACTIVE", 2)
        await sql.execute("TRUNCATE session.sockets")

        async def are_back() -> bool:
            return bool(await sql.fetchval("SELECT count(*) FROM session.sockets") == 2)

        await eventually(are_back, within_s=20, what="both rows")
        assert await sql.fetchval("SELECT attempt FROM session.sockets WHERE client_id = 'tab-2'") == 7
    await session_becomes(sql, "INACTIVE", 0)


async def test_a_pod_whose_row_was_removed_registers_again(make_service: Callable[..., Any], sql: Sql) -> None:
    service: Service = await make_service(POD_LEASE_SECONDS="1")
    async with connect(service):
        await session_becomes(sql, "ACTIVE", 1)
        await sql.fetch("SELECT session.bury_pod(pod_id) FROM session.pods")
        await session_becomes(sql, "ACTIVE", 1)


async def test_a_socket_that_comes_before_the_pods_row_is_told_to_come_again(service: Service, sql: Sql) -> None:
    """As in the moment after a start, or after the row was removed by hand: 503, never a fault."""
    await sql.fetch("SELECT session.bury_pod(pod_id) FROM session.pods")
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    async with service.http.get("/ws?deviceId=device-1", headers={**bearer(), **upgrade}) as response:
        assert response.status in {101, 503}, await response.text()
        if response.status == 503:
            assert int(response.headers["Retry-After"]) >= 1


async def test_readiness_means_that_sockets_are_taken(make_service: Callable[..., Any]) -> None:
    for _attempt in range(3):
        service: Service = await make_service()

        async def is_ready(service: Service = service) -> bool:
            async with service.http.get("/readiness") as response:
                return response.status == 200

        await eventually(is_ready, within_s=20, what="ready")
        async with connect(service):
            pass


async def test_reports_of_quality_reach_the_metadata_by_the_round(service: Service, api: ApiClient, sql: Sql) -> None:
    async with connect(service) as client:
        session_id = client.frames[0]["sessionId"]
        await client.send({"type": "connection_quality", "latencyMs": 700, "missedHeartbeats": 0})

        async def quality() -> str:
            return str((await api.session(session_id))["connection_quality"])

        async def is_degraded() -> bool:
            return await quality() == "DEGRADED"

        await eventually(is_degraded, within_s=20, what="DEGRADED")
        await client.send({"type": "connection_quality", "latencyMs": 40, "missedHeartbeats": 3})

        async def is_poor() -> bool:
            return await quality() == "POOR"

        await eventually(is_poor, within_s=20, what="POOR")
        session = await api.session(session_id)
        assert session["heartbeat_latency"] == 40
        assert session["missed_heartbeats"] == 3
        assert isinstance(session["last_quality_update"], int)


async def test_heartbeats_cost_no_statement_each(service: Service) -> None:
    """A hundred messages of ten sockets, and the statements that the pod made meanwhile."""

    def statements() -> float:
        total = 0.0
        for metric in service.server.metrics.db_operation_duration_seconds.collect():
            total += sum(sample.value for sample in metric.samples if sample.name.endswith("_count"))
        return total

    async with asyncio.TaskGroup() as group:
        ready, go = asyncio.Barrier(11), asyncio.Event()

        async def beat(number: int) -> None:
            async with connect(service, clientId=f"tab-{number}", deviceId=f"device-{number}") as client:
                await ready.wait()
                await go.wait()
                for _ in range(20):
                    await client.send({"type": "heartbeat", "timestamp": 1, "deviceId": f"device-{number}"})
                for _ in range(20):
                    await client.receive_type("heartbeat_ack")
                await ready.wait()
                go.clear()

        for number in range(10):
            group.create_task(beat(number))
        await ready.wait()
        before, started = statements(), asyncio.get_running_loop().time()
        go.set()
        await ready.wait()
        made, took_s = statements() - before, asyncio.get_running_loop().time() - started
    # The rounds make their few statements a second whatever happens; 200 heartbeats must add next to nothing.
    assert made <= 20 + 15 * took_s, (made, took_s)


async def test_reconnect_counts(api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    path = f"/api/sessions/{session_id}/reconnect"
    bodies = await asyncio.gather(
        *(api.call("POST", path, json={"deviceId": "device-1", "attempt": number}) for number in range(1, 21))
    )
    assert {status for status, _body in bodies} == {200}
    session = await api.session(session_id)
    assert session["reconnect_count"] == 20
    assert session["last_reconnect"] > 1_700_000_000
    status, body = await api.call("POST", path, json={"deviceId": "another", "attempt": 1})
    assert (status, body["code"]) == (409, "DEVICE_MISMATCH")
    assert (await api.session(session_id))["reconnect_count"] == 20
