"""The local control of a whole run: what a page can ask of it, and who can not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest
from yarl import URL

from session_service.api.http_server import SHUTDOWN_LIMIT_S
from session_service.config import AuthMode, AuthSettings
from session_service.errors import ConfigurationError
from session_service.local.control import LocalControl
from session_service.local.pod import START_ATTEMPTS, Pod
from session_service.local.pod_loads import PodLoads
from session_service.local.ports import free_port, listening_socket
from tests.support.local_process import Run, free_ports
from tests.support.stalls import Stalls
from tests.support.waiting import eventually

WITHIN_S = 60.0
Table = list[dict[str, Any]]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    made = Run(tmp_path_factory.mktemp("control") / "data", port=free_ports(2), pods=2)
    try:
        made.ready()
        yield made
    finally:
        made.end()
        made.close()


class Control:
    """What a page of this run has in hand, from its own page.json."""

    def __init__(self, http: aiohttp.ClientSession, configuration: dict[str, Any]) -> None:
        self.http = http
        self.pods: list[str] = configuration["pods"]
        self.url: str = configuration["local"]["controlUrl"]
        self.headers = {"Origin": self.pods[0], "X-Local-Control": configuration["local"]["controlKey"]}

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        options = {"headers": self.headers, **options}
        async with self.http.request(method, f"{self.url}{path}", **options) as response:
            return response.status, msgspec.json.decode(await response.read())

    async def table(self) -> Table:
        status, answer = await self.ask("GET", "/pods")
        assert status == 200
        pods: Table = answer["pods"]
        return pods

    async def bearer(self) -> dict[str, str]:
        _status, answer = await self.ask("POST", "/token")
        return {"Authorization": f"Bearer {answer['token']}"}

    async def all_run(self) -> None:
        """Also after a test that ended one of them."""

        async def they_do() -> bool:
            return all(pod["status"] == "RUNNING" for pod in await self.table())

        await eventually(they_do, within_s=WITHIN_S, what="every pod runs")


@pytest.fixture
async def control(run: Run) -> AsyncIterator[Control]:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{run.port}/page.json") as response:
            made = Control(http, await response.json())
        await made.all_run()
        yield made


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"Host": "evil.example"}, "address"),
        ({"Host": "localhost"}, "address"),
        ({"Origin": "http://evil.example"}, "pages"),
        ({"Origin": "null"}, "pages"),
        ({"Origin": None}, "pages"),
        ({"X-Local-Control": "guessed"}, "key"),
        ({"X-Local-Control": "gr\u00fcn"}, "key"),
        ({"X-Local-Control": None}, "key"),
    ],
    ids=str,
)
async def test_others_are_refused(control: Control, changed: dict[str, str | None], words: str) -> None:
    before = await control.table()
    given = {**control.headers, **changed}
    headers = {name: value for name, value in given.items() if value is not None}
    for method, path in (("POST", "/token"), ("GET", "/pods"), ("POST", "/pods/pod-1/kill"), ("GET", "/pods/events")):
        status, answer = await control.ask(method, path, headers=headers)
        assert (status, answer["success"]) == (403, False), path
        assert words in answer["error"]
    assert [pod["pid"] for pod in await control.table()] == [pod["pid"] for pod in before]


async def test_a_page_of_any_pod_by_either_name_may_ask(control: Control) -> None:
    for pod in control.pods:
        for origin in (pod, pod.replace("127.0.0.1", "localhost")):
            preflight = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type,x-local-control",
            }
            async with control.http.options(f"{control.url}/token", headers=preflight) as response:
                assert response.status == 204
                assert response.headers["Access-Control-Allow-Origin"] == origin
                assert "X-Local-Control" in response.headers["Access-Control-Allow-Headers"]
            async with control.http.get(
                f"{control.url}/pods", headers={**control.headers, "Origin": origin}
            ) as response:
                assert response.status == 200
                assert response.headers["Access-Control-Allow-Origin"] == origin
                assert response.headers["Vary"] == "Origin"
                assert response.headers["Cache-Control"] == "no-store"


async def test_a_preflight_of_another_origin_is_refused(control: Control) -> None:
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    async with control.http.options(f"{control.url}/token", headers=preflight) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_token_signs_in_at_every_pod(control: Control) -> None:
    before = datetime.now(UTC)
    status, answer = await control.ask("POST", "/token", json={"userId": "42"})
    assert (status, answer["userId"]) == (200, "42")
    assert 800 < (datetime.fromisoformat(answer["expiresAt"]) - before).total_seconds() <= 901
    bearer = {"Authorization": f"Bearer {answer['token']}"}
    for pod in control.pods:
        async with control.http.post(f"{pod}/api/sessions", json={"deviceId": "tab"}, headers=bearer) as response:
            assert response.status in {200, 201}
    # The user that is taken where none is named is a number, so that named sessions take it.
    async with control.http.get(f"{control.pods[0]}/api/v1/sessions/", headers=await control.bearer()) as response:
        assert response.status == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"userId": ""}', b'{"userId": 7}', b"\xff"])
async def test_a_body_that_is_none_is_refused(control: Control, body: bytes) -> None:
    status, answer = await control.ask("POST", "/token", data=body)
    assert (status, answer["success"]) == (400, False)


async def test_the_table_counts_what_each_pod_has(control: Control, run: Run) -> None:
    bearer = await control.bearer()
    assert [(pod["name"], pod["url"]) for pod in await control.table()] == [
        ("pod-1", control.pods[0]),
        ("pod-2", control.pods[1]),
    ]
    assert [pod["pid"] for pod in await control.table()] == [pod.pid for pod in run.description().pods]
    async with control.http.ws_connect(f"{control.pods[1]}/ws?deviceId=counted", headers=bearer) as socket:
        assert (await socket.receive_json())["type"] == "connected"

        async def is_counted() -> bool:
            first, second = await control.table()
            return (first["sockets"], second["sockets"]) == (0, 1) and second["sessions"] >= 1

        await eventually(is_counted, within_s=WITHIN_S, what="the socket is counted at its pod")


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_pod_that_was_ended_comes_back_and_whoever_watches_sees_it(control: Control, way: str) -> None:
    before = (await control.table())[1]
    seen: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(WITHIN_S),
        control.http.get(f"{control.url}/pods/events", headers=control.headers) as stream,
    ):
        assert stream.content_type == "text/event-stream"
        async for line in stream.content:
            if not line.startswith(b"data: "):
                continue
            if not seen:
                assert await control.ask("POST", f"/pods/pod-2/{way}") == (202, {"success": True})
            pod = msgspec.json.decode(line.removeprefix(b"data: "))["pods"][1]
            seen.append(pod)
            if pod["status"] == "RUNNING" and pod["pid"] != before["pid"]:
                break
    assert seen[0]["pid"] == before["pid"]
    assert seen[0]["status"] == "RUNNING"
    assert seen[-1]["url"] == before["url"]
    assert not psutil.pid_exists(before["pid"])
    async with control.http.get(f"{before['url']}/readiness") as response:
        assert response.status == 200


async def test_pods_that_are_ended_while_the_run_starts_do_not_end_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    starting = Run(tmp_path_factory.mktemp("starting") / "data", port=free_ports(1))
    try:
        async with aiohttp.ClientSession() as http:
            pids = {await first_pid(starting)}
            control = of_pod(http, psutil.Process(*pids))

            async def is_ended_as_often_as_it_may_fail() -> bool:
                pod = (await control.table())[0]
                if pod["status"] == "STARTING" and (await control.ask("POST", "/pods/pod-1/kill"))[0] == 202:
                    pids.add(pod["pid"])
                return len(pids) > START_ATTEMPTS

            await eventually(
                is_ended_as_often_as_it_may_fail, within_s=WITHIN_S, what="the pod is ended often enough"
            )
        starting.ready()
        assert starting.end() == 0
    finally:
        starting.close()


async def first_pid(run: Run) -> int:
    """The process of a run's first pod, as soon as the run tells of it."""
    found: list[int] = []

    async def is_told() -> bool:
        with contextlib.suppress(ConfigurationError):
            found.append(run.description().pods[0].pid)
        return bool(found)

    await eventually(is_told, within_s=WITHIN_S, what="the first pod has a process")
    return found[0]


def of_pod(http: aiohttp.ClientSession, process: psutil.Process) -> Control:
    """The control as the pod is told of it, which need not answer yet."""
    told = process.environ()
    local = {"controlUrl": told["LOCAL_CONTROL_URL"], "controlKey": told["LOCAL_CONTROL_KEY"]}
    return Control(http, {"pods": told["LOCAL_POD_URLS"].split(","), "local": local})


async def test_a_pod_that_is_not_there_cannot_be_ended(control: Control) -> None:
    status, answer = await control.ask("POST", "/pods/pod-9/kill")
    assert (status, answer["success"]) == (404, False)


async def test_the_rest_is_not_found(control: Control) -> None:
    for method, path in (("GET", "/"), ("GET", "/token"), ("DELETE", "/pods"), ("HEAD", "/pods/events")):
        async with control.http.request(method, f"{control.url}{path}", headers=control.headers) as response:
            assert response.status == (405 if path != "/" else 404)
            assert method == "HEAD" or (await response.json())["success"] is False


async def test_a_request_that_cannot_be_read_is_repeated_nowhere(tmp_path: Path, capfd: Captured) -> None:
    async with control_alone(tmp_path) as (control, _alone):
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(control.url).port)
        writer.write(b"GET /pods HTTP/1.1\r\nX-Local-Control: canary\x00\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b"canary" not in answer
    assert b"aiohttp" not in answer
    assert "canary" not in "".join(capfd.readouterr())


def unserved_control(tmp_path: Path) -> tuple[LocalControl, socket.socket, Pod]:
    """A control of one pod that was never started, without a database, where tokens come from elsewhere."""
    clock = asyncio.get_running_loop().time
    pod = Pod("pod-1", free_port(), environ={}, log=tmp_path / "pod.log", stop_limit_s=1.0)
    listening = listening_socket()
    made = LocalControl(
        listening,
        key="key",
        pods=[pod],
        loads=PodLoads(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", clock),
        auth=AuthSettings(mode=AuthMode.JWKS),
        secret_key="unused",
        clock=clock,
    )
    return made, listening, pod


@asynccontextmanager
async def control_alone(tmp_path: Path) -> AsyncIterator[tuple[Control, LocalControl]]:
    """It, served."""
    alone, listening, pod = unserved_control(tmp_path)
    await alone.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with aiohttp.ClientSession() as http:
            yield Control(http, {"pods": [pod.url], "local": {"controlUrl": url, "controlKey": "key"}}), alone
    finally:
        await alone.stop()


async def test_it_ends_before_it_was_served_too(tmp_path: Path) -> None:
    unserved, listening, _pod = unserved_control(tmp_path)
    await unserved.stop()
    assert listening.fileno() == -1


async def test_without_database_pods_or_a_key_to_sign_with_it_says_so(tmp_path: Path) -> None:
    async with control_alone(tmp_path) as (control, _alone):
        assert await control.table() == [
            {
                "name": "pod-1",
                "url": control.pods[0],
                "pid": None,
                "status": "STOPPED",
                "sessions": None,
                "sockets": None,
                "simulators": None,
            }
        ]
        status, answer = await control.ask("POST", "/pods/pod-1/stop")
        assert (status, answer["success"]) == (409, False)
        status, answer = await control.ask("POST", "/token")
        assert status == 409
        assert "AUTH_MODE is jwks" in answer["error"]


async def test_who_watches_does_not_hold_up_the_end(tmp_path: Path, stalls: Stalls) -> None:
    async with (
        control_alone(tmp_path) as (control, alone),
        control.http.get(f"{control.url}/pods/events", headers=control.headers) as stream,
    ):
        assert await stream.content.readline() == b"event: pods\n"
        began_s = time.monotonic()
        await alone.stop()
        assert stalls.took_s(began_s) < 2 * SHUTDOWN_LIMIT_S
        assert b"STOPPED" in await stream.content.read()  # to the end: it is a whole answer


async def test_a_page_that_is_turned_off_leaves_no_control(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    off = Run(tmp_path_factory.mktemp("off") / "data", port=free_ports(1), BROWSER_PAGE="off")
    try:
        off.ready()
        assert "in a browser" in run.errors()
        assert "browser" not in off.errors()
        listening = [
            one.laddr.port for one in psutil.Process(off.process.pid).net_connections() if one.status == "LISTEN"
        ]
        assert listening == []
        async with aiohttp.ClientSession(f"http://127.0.0.1:{off.port}") as http:
            for path in ("/", "/page.json"):
                async with http.get(path, headers={"Origin": f"http://localhost:{off.port}"}) as response:
                    assert response.status == 404
            async with http.post("/api/local/connections/tab/cut") as response:
                assert response.status == 404
            async with http.get("/api/sessions", headers={"Origin": f"http://localhost:{off.port}"}) as response:
                assert response.status == 401
                assert "Access-Control-Allow-Origin" not in response.headers
    finally:
        off.end()
        off.close()
