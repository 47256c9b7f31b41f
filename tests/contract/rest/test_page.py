"""The browser page on a whole pod: off by default, on by a setting, and what belongs to a local run only there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp

from session_service import __version__
from session_service.api.page_files import built_page
from tests.support.service import Service, bearer

MakeService = Callable[..., Awaitable[Service]]

CUT = "/api/local/connections/tab-1/cut"


async def test_there_is_no_page_unless_it_is_asked_for(service: Service) -> None:
    for path in ("/", "/page.json", "/assets/main.js"):
        async with service.http.get(path) as response:
            assert response.status == 404, path
            assert (await response.json())["code"] == "NOT_FOUND"


async def test_the_page_or_how_to_build_it(make_service: MakeService) -> None:
    service = await make_service(BROWSER_PAGE="on")
    is_built = (built_page() / "index.html").is_file()
    async with service.http.get("/") as response:
        assert (response.status, response.content_type) == (200 if is_built else 503, "text/html")
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    async with service.http.get("/page.json") as response:
        assert await response.json() == {"local": None, "pods": [], "version": __version__}


async def test_metrics_name_no_asset(make_service: MakeService) -> None:
    service = await make_service(BROWSER_PAGE="on")
    async with service.http.get("/assets/canary-1234.js") as response:
        assert response.status == 404
    async with service.http.get("/metrics") as response:
        assert "canary" not in await response.text()


async def test_no_pod_outside_a_local_run_cuts_connections(make_service: MakeService) -> None:
    service = await make_service(BROWSER_PAGE="on")
    async with service.http.post(CUT, headers=bearer()) as response:
        assert response.status == 404


async def test_a_pod_of_a_local_run_answers_the_page_of_another(make_service: MakeService) -> None:
    other = "http://127.0.0.1:8081"
    service = await make_service(
        BROWSER_PAGE="on",
        LOCAL_CONTROL_URL="http://127.0.0.1:7001",
        LOCAL_CONTROL_KEY="key-of-this-run",
        LOCAL_POD_URLS=other,
        CORS_ALLOWED_ORIGINS=other,
    )
    preflight = {
        "Origin": other,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with service.http.options(CUT, headers=preflight) as response:
        assert response.headers["Access-Control-Allow-Origin"] == other
    async with service.http.post(CUT) as response:
        assert response.status == 401
    async with service.http.post(CUT, headers={**bearer(), "Origin": other}) as response:
        assert (response.status, await response.json()) == (200, {"success": True, "cut": 0})
        assert response.headers["Access-Control-Allow-Origin"] == other
    try:
        async with service.http.ws_connect("/ws?deviceId=laptop", headers={**bearer(), "Origin": other}) as socket:
            assert (await socket.receive_json())["type"] == "connected"
    except aiohttp.WSServerHandshakeError as refusal:
        raise AssertionError(f"refused with {refusal.status}") from refusal
