"""A token is never shown: not in logs at DEBUG, nor in metrics, errors, documents, Redis or PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from pathlib import Path

import aiohttp
import asyncpg
import redis.asyncio as redis_asyncio

from tests.support.api_client import ApiClient
from tests.support.pod_process import pod_process
from tests.support.servers import Database, TestServers
from tests.support.service import SECRET_KEY, token


def spellings(secret: str) -> list[str]:
    """As it is, and as the subprotocol carries it; each without its first and last characters, as cut ones are."""
    encoded = base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")
    signature = secret.rsplit(".", 1)[-1]
    return [secret, encoded, encoded[8:-8], signature, signature[4:-4]]


async def raw(port: int, request: str) -> str:
    """Send bytes that no HTTP client would; the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    assert answer.startswith(b"HTTP/1.0 400 "), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "INVALID_REQUEST"
    return answer.decode()


async def test_no_token_is_shown_anywhere(servers: TestServers, database: Database, tmp_path: Path) -> None:
    good = token("canary")
    bad = good[:-6] + "AAAAAA"
    expired = token("canary", ttl_s=-3600)
    environ = {
        **database.environ(),
        **servers.redis_environ(),
        "LOG_LEVEL": "DEBUG",
        "WEBSOCKET_QUERY_TOKEN": "allow",
    }
    shown: list[str] = []
    async with pod_process(tmp_path, environ) as pod:
        await pod.is_ready()

        async def ask(method: str, path: str, **options: object) -> None:
            async with pod.http.request(method, path, **options) as response:  # type: ignore[arg-type] # as given
                shown.extend([await response.text(), str(response.headers)])

        api = ApiClient(pod.http, "canary")
        simulator_id = await api.start_simulator(await api.open_session())
        simulator_token = (
            await ApiClient(pod.http, "service", scope="simulators").session(await api.open_session())
        )["simulator_token"]
        for each in (good, bad, expired):
            headers = {"Authorization": f"Bearer {each}"}
            encoded = base64.urlsafe_b64encode(each.encode()).decode().rstrip("=")
            await ask("GET", "/api/sessions", headers=headers)
            await ask("GET", f"/api/sessions/{each}", headers=headers)
            await ask("GET", f"/{each}", headers=headers)
            await ask("POST", "/api/sessions", headers=headers, data=f'{{"deviceId": "{each}')
            await ask("GET", f"/api/simulators/{simulator_id}/orders/{each}", headers=headers)
            await ask("GET", f"/ws?deviceId=d&token={each}")
            await ask("GET", f"/api/sessions?token={each}", headers={"X-Request-ID": each})
            # What cannot be parsed reaches no application, and is answered all the same.
            shown.append(await raw(pod.port, f"GET /ws?token={each} HTTP/9.x\r\nHost: pod\r\n\r\n"))
            shown.append(await raw(pod.port, f"GET / HTTP/1.1\r\nAuthorization: Bearer {each * 60}\r\n\r\n"))
            for protocols in (("session.v1", f"bearer.{encoded}"), ()):
                try:
                    async with pod.http.ws_connect(
                        "/ws", params={"deviceId": "d"}, headers={} if protocols else headers, protocols=protocols
                    ) as socket:
                        await socket.send_json({"type": "authenticate", "token": each})
                        await socket.send_json({"type": each})
                        await socket.send_str(each)
                        shown.append(str((await socket.receive()).data))
                except aiohttp.WSServerHandshakeError as refused:
                    shown.append(str(refused.headers))
            try:
                async with pod.http.ws_connect("/ws", params={"deviceId": "d", "token": each}) as socket:
                    shown.append(str((await socket.receive()).data))
            except aiohttp.WSServerHandshakeError as refused:
                shown.append(str(refused.headers))
        for path in ("/metrics", "/openapi.json", "/asyncapi.json", "/docs", "/health", "/readiness"):
            await ask("GET", path)
        async with redis_asyncio.Redis.from_url(servers.valkey.url(), decode_responses=True) as client:
            keys = await client.keys("session:*") + await client.keys("pod:*")
            for key in keys:
                is_hash = await client.type(key) == "hash"
                shown.append(json.dumps(await client.hgetall(key) if is_hash else await client.get(key)))
        pod.signal(signal.SIGTERM)
        assert await pod.ended() == 0
        assert '"debug"' in pod.output, "the test needs the log at DEBUG"
        shown.append(pod.output)
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        for table in ("session.active_sessions", "session.session_metadata", "simulator.instances"):
            shown += [str(tuple(row)) for row in await connection.fetch(f"SELECT * FROM {table}")]  # noqa: S608
    finally:
        await connection.close()
    secrets = {
        "good": spellings(good),
        "bad": spellings(bad),
        "expired": spellings(expired),
        "simulator": [simulator_token],
        "key": [SECRET_KEY],
        "database": [database.environ()["DB_PASSWORD"]],
        "redis": [servers.redis_environ()["REDIS_PASSWORD"]],
    }
    found = {
        name: next(text[max(0, text.find(one) - 300) : text.find(one) + 60] for text in shown if one in text)
        for name, many in secrets.items()
        for one in many
        if any(one in text for text in shown)
    }
    assert not found, found
