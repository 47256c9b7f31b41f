"""Every close code, its cause and its frame, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from tests.support.service import Service, bearer
from tests.support.websocket_client import RawSocket, connect, raw_connect

WINDOW_S = 4.0  # of a drain: what a busy machine takes for the few steps of who moves, and more
HEARTBEAT = json.dumps({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"}).encode()


async def test_frames_that_the_protocol_forbids(service: Service) -> None:
    def cases(raw: RawSocket) -> dict[str, tuple[bytes, int]]:
        return {
            "unmasked": (raw.frame(0x1, HEARTBEAT, mask=b""), 1002),
            "compressed": (b"\xc1" + raw.frame(0x1, HEARTBEAT)[1:], 1002),
            "reserved opcode": (raw.frame(0x3), 1002),
            "stray continuation": (raw.frame(0x0, b"x"), 1002),
            "not UTF-8": (raw.frame(0x1, b"\xff\xfe"), 1007),
            "oversize": (b"\x81\xff" + (65537).to_bytes(8, "big"), 1009),
            "oversize in fragments": (
                raw.frame(0x1, b"x" * 40_000, final=False) + raw.frame(0x0, b"x" * 40_000),
                1009,
            ),
            "binary": (raw.frame(0x2, b"x"), 4506),
            "the client's close": (raw.frame(0x8, b"\x03\xe9"), 1000),
            "the client's close without a code": (raw.frame(0x8), 1000),
        }

    async with raw_connect(service) as probe:
        names = cases(probe)
    for name, (_, code) in names.items():
        async with raw_connect(service, f"/ws?deviceId=device-1&clientId={name.replace(' ', '-')}") as raw:
            await raw.read_frame()  # connected
            await raw.send(cases(raw)[name][0])
            assert await raw.close_code() == code, name
            if code != 1000:
                await raw.send(raw.frame(0x8, code.to_bytes(2, "big")))
            assert await raw.at_end(), name


async def test_the_largest_message_is_still_a_message(service: Service) -> None:
    async with raw_connect(service) as raw:
        await raw.read_frame()
        padding = b" " * (65536 - len(HEARTBEAT))
        await raw.send(raw.frame(0x1, HEARTBEAT + padding))
        assert json.loads((await raw.read_frame())[1])["type"] == "heartbeat_ack"


async def test_a_ping_is_answered_with_its_payload(service: Service) -> None:
    async with raw_connect(service) as raw:
        await raw.read_frame()
        await raw.send(raw.frame(0x9, b"are you there"))
        assert await raw.read_frame() == (0xA, b"are you there")


async def test_a_peer_that_ignores_our_close_is_dropped(service: Service) -> None:
    async with raw_connect(service) as raw:
        await raw.read_frame()
        await raw.send(raw.frame(0x2, b"binary"))
        assert await raw.close_code() == 4506
        assert await raw.at_end()  # within CLOSE_LIMIT_S, without our close frame


async def test_too_many_messages_4029(service: Service) -> None:
    async with connect(service) as client:
        limits = client.frames[0]["limits"]
        started_s = time.monotonic()
        for _ in range(200):
            await client.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"})
        assert await client.close_code() == 4029
        took_s = time.monotonic() - started_s
        acknowledged = sum(frame["type"] == "heartbeat_ack" for frame in client.frames)
        allowed = limits["messageBurst"] + limits["messagesPerSecond"] * took_s
        assert limits["messageBurst"] <= acknowledged <= allowed + 1


async def test_logout_closes_every_socket_of_the_session_with_4503(service: Service) -> None:
    async with connect(service, clientId="a") as first, connect(service, clientId="b") as second:
        session_id = first.frames[0]["sessionId"]
        async with service.http.delete(f"/api/sessions/{session_id}", headers=bearer()) as response:
            assert response.status == 200
        for client in (first, second):
            assert (await client.receive_type("session_ended"))["reason"] == "ended"
            assert await client.close_code() == 4503


async def test_an_expired_session_closes_its_event_stream(make_service: Callable[..., Any]) -> None:
    # A stream of events sends nothing; its keep-alive is the pod's round, which is made rare here.
    service = await make_service(SESSION_TIMEOUT_SECONDS="2", POD_LEASE_SECONDS="60")
    async with connect(service) as client:
        assert (await client.receive_type("session_ended"))["reason"] == "expired"
        assert await client.close_code() == 4503


async def test_a_newer_attempt_replaces_the_older_after_its_own_first_frame(service: Service) -> None:
    async with (
        connect(service, clientId="tab", attempt=1) as old,
        connect(service, clientId="tab", attempt=2) as new,
    ):
        assert new.frames[0]["clientId"] == "tab"
        assert (await old.receive_type("connection_replaced"))["reason"] == "newer_connection"
        assert await old.close_code() == 4504
        async with connect(service, clientId="tab", attempt=1, connected=False) as late:
            assert (await late.receive())["type"] == "connection_replaced"
            assert await late.close_code() == 4504
        assert (await new.ask("request_session"))["status"] == "ACTIVE"


async def test_the_ninth_connection_evicts_the_most_silent_with_4504(service: Service) -> None:
    async with connect(service, clientId="c0") as first:
        others = [connect(service, clientId=f"c{number}") for number in range(1, 8)]
        clients = [await one.__aenter__() for one in others]
        await first.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"})
        await first.receive_type("heartbeat_ack")
        async with connect(service, clientId="ninth") as ninth:
            assert (await clients[0].receive_type("connection_replaced"))["reason"] == "connection_limit"
            assert await clients[0].close_code() == 4504
            for client in (first, ninth, *clients[1:]):
                assert (await client.ask("request_session"))["type"] == "session_info"
        for one in others:
            await one.__aexit__(None, None, None)


async def test_silence_4009(make_service: Callable[..., Any]) -> None:
    service = await make_service(WEBSOCKET_HEARTBEAT_INTERVAL="0.1")
    manager = service.server._websockets
    async with connect(service) as client:
        (connection,) = manager.registry
        # The limit is 10 s and more: the socket's last message is moved back instead of waiting for it.
        connection.protocol.deadline_s -= 10.2
        assert await client.close_code() == 4009


async def test_no_authentication_in_time_4408_for_two_thousand_silent_sockets(service: Service) -> None:
    manager = service.server._websockets

    async def silent() -> int | None:
        async with raw_connect(service, headers={}) as raw:
            return await raw.close_code()

    async with connect(service) as other:
        sockets: list[asyncio.Task[int | None]] = []
        most = 0
        while len(sockets) < 2000:
            sockets += [asyncio.create_task(silent()) for _ in range(100)]
            await other.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"})
            await other.receive_type("heartbeat_ack")
            most = max(most, manager._admission.unauthenticated)
        codes = await asyncio.wait_for(asyncio.gather(*sockets), 120)
        assert (await other.ask("request_session"))["type"] == "session_info"
    assert set(codes) == {4408}
    assert most > 100
    assert manager._admission.unauthenticated == 0


async def test_the_pod_goes_1012(make_service: Callable[..., Any]) -> None:
    service = await make_service()
    async with connect(service, clientId="tab") as client:
        ending = asyncio.create_task(service.server.shutdown("SIGTERM"))
        notice = await client.receive_type("pod_terminating")
        assert set(notice) == {"type", "timestamp", "reconnectAfterMs", "deadlineMs", "reason"}
        assert await client.close_code() == 1012
        await ending


async def test_a_pod_that_drains_refuses_new_connections_with_503(make_service: Callable[..., Any]) -> None:
    service = await make_service()
    service.server._websockets.refuse_new()
    headers = {
        **bearer(),
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "session.v1",
    }
    async with service.http.get("/ws", params={"deviceId": "d"}, headers=headers) as response:
        assert response.status == 503
        assert (await response.json())["code"] == "POD_TERMINATING"
        assert int(response.headers["Retry-After"]) >= 1


async def test_a_drain_gives_each_client_its_slot_and_waits_for_those_that_can_move(service: Service) -> None:
    manager = service.server._websockets
    async with (
        connect(service, clientId="moves") as moving,
        connect(service, clientId="stays") as staying,
        connect(service) as unnamed,
    ):
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        drained = asyncio.create_task(manager.drain("deploy", window_s=WINDOW_S))
        notices = [await client.receive_type("pod_terminating") for client in (moving, staying, unnamed)]
        slots_ms = [notice["reconnectAfterMs"] for notice in notices]
        assert {notice["deadlineMs"] for notice in notices} == {WINDOW_S * 1000}
        assert len(set(slots_ms)) == 3
        assert all(0 <= slot_ms < WINDOW_S * 1000 for slot_ms in slots_ms)
        await moving.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"})
        await moving.receive_type("heartbeat_ack")  # it is served on
        await moving.socket.close()
        assert moving.socket.close_code == 1000
        stays = asyncio.create_task(staying.close_code())
        assert await unnamed.close_code() == 1012
        assert not stays.done()
        assert await stays == 1012
        assert loop.time() - started_s >= WINDOW_S * 0.95
        await drained


async def test_malformed_frames_by_the_thousand_leave_nothing_behind(service: Service) -> None:
    """10,000 sockets, each with another fault: right codes, no crash, flat memory."""
    import psutil

    process = psutil.Process()
    manager = service.server._websockets
    faults: list[tuple[Callable[[RawSocket], bytes], set[int | None]]] = [
        (lambda raw: raw.frame(0x1, HEARTBEAT, mask=b""), {1002}),
        (lambda raw: b"\xff" * 64, {1002}),
        (lambda raw: raw.frame(0x1, b"\xff"), {1007}),
        (lambda raw: b"\x81\xff" + b"\x7f" + b"\xff" * 7, {1009}),
        (lambda raw: raw.frame(0x2, b"x" * 1000), {4506}),
        (lambda raw: raw.frame(0x0, b"x"), {1002}),
        (lambda raw: raw.frame(0x1, b"x" * 30_000, final=False) + raw.frame(0x1, b"y"), {1002}),
        (lambda raw: b"\xc1" + raw.frame(0x1, b"x\x9c" * 20)[1:], {1002}),
        (lambda raw: raw.frame(0x9, b"x", final=False), {1002}),
    ]

    async def one(number: int) -> bool:
        fault, codes = faults[number % len(faults)]
        async with raw_connect(service, headers={}) as raw:  # not authenticated: the database has no part in it
            data = fault(raw)
            if number % 3 == 0:
                for byte in range(len(data[:20])):
                    await raw.send(data[byte : byte + 1])
                data = data[20:]
            await raw.send(data)
            return await raw.close_code() in codes

    async def batch(first: int, count: int) -> list[bool]:
        return await asyncio.gather(*(one(number) for number in range(first, first + count)))

    for first in range(0, 1000, 100):  # what the interpreter and the allocator take once
        assert all(await batch(first, 100))
    before_bytes = process.memory_info().rss
    for first in range(1000, 10_000, 100):
        assert all(await batch(first, 100))
    grown_bytes = process.memory_info().rss - before_bytes
    assert grown_bytes < 5_000_000
    while manager._connections:
        await asyncio.sleep(0.05)
