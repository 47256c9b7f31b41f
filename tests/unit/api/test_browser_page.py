"""The page's files: what is served, in which form, for how long, and that nothing else can be reached."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from session_service import __version__
from session_service.api.browser_page import page_routes
from session_service.api.middleware import add_common_headers, error_middleware
from session_service.config import LocalRunSettings

Client = TestClient[web.Request, web.Application]

INDEX = b'<!doctype html><script type="module" src="/assets/main-1a2b.js"></script>'
SCRIPT = b"console.log('the page')\n" * 40
COMPRESSED = {"br": b"as brotli would have it", "gzip": gzip.compress(SCRIPT, mtime=0)}
POD_URLS = ("http://127.0.0.1:8080", "http://127.0.0.1:8081")
IN_A_LOCAL_RUN = LocalRunSettings(
    control_url="http://127.0.0.1:7001", control_key="key-of-this-run", pod_urls=POD_URLS
)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A page as `make browser` leaves it, with a secret beside it and one that is no part of a page within."""
    page = tmp_path / "page"
    (page / "assets" / "deeper").mkdir(parents=True)
    (page / ".vite").mkdir()
    (page / "index.html").write_bytes(INDEX)
    (page / "assets" / "main-1a2b.js").write_bytes(SCRIPT)
    (page / "assets" / "main-1a2b.js.br").write_bytes(COMPRESSED["br"])
    (page / "assets" / "main-1a2b.js.gz").write_bytes(COMPRESSED["gzip"])
    (page / "assets" / "icon-3c4d.svg").write_bytes(b"<svg/>")
    for secret in (tmp_path / "secret.json", page / ".vite" / "manifest.json", page / "assets" / "deeper" / "a.js"):
        secret.write_text("secret")
    (page / "assets" / "notes.txt").write_text("secret")
    return page


def client_of(page: Path, local_run: LocalRunSettings | None = None) -> Client:
    app = web.Application(middlewares=[error_middleware])
    app.on_response_prepare.append(add_common_headers)
    app.router.add_routes(page_routes(page, local_run or LocalRunSettings()))
    return TestClient(TestServer(app), auto_decompress=False)


@pytest.fixture
async def client(built: Path) -> AsyncIterator[Client]:
    async with client_of(built) as made:
        yield made


async def test_the_index_is_asked_for_anew_each_time(client: Client) -> None:
    first = await client.get("/")
    assert (first.status, await first.read(), first.content_type, first.charset) == (200, INDEX, "text/html", "utf-8")
    assert first.headers["Cache-Control"] == "no-cache"
    etag = first.headers["ETag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = await client.get("/", headers={"If-None-Match": known})
        assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag), known
        assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
    changed = await client.get("/", headers={"If-None-Match": '"other"'})
    assert changed.status == 200


async def test_an_asset_is_kept_for_ever(client: Client) -> None:
    icon = await client.get("/assets/icon-3c4d.svg")
    assert (icon.status, icon.content_type) == (200, "image/svg+xml")
    assert icon.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Vary" not in icon.headers  # it has one form


@pytest.mark.parametrize(
    ("accept_encoding", "coding", "body"),
    [
        ("gzip, deflate, br", "br", COMPRESSED["br"]),
        ("gzip", "gzip", COMPRESSED["gzip"]),
        ("identity", None, SCRIPT),
        ("br;q=0, gzip;q=0", None, SCRIPT),
    ],
)
async def test_each_client_gets_the_form_it_reads(
    client: Client, accept_encoding: str, coding: str | None, body: bytes
) -> None:
    headers = {"Accept-Encoding": accept_encoding}
    got = await client.get("/assets/main-1a2b.js", headers=headers)
    assert (await got.read(), got.headers.get("Content-Encoding"), got.headers["Vary"]) == (
        body,
        coding,
        "Accept-Encoding",
    )
    assert (got.content_type, got.charset) == ("text/javascript", "utf-8")
    head = await client.head("/assets/main-1a2b.js", headers=headers)
    assert (head.status, await head.read(), head.headers["Content-Length"]) == (200, b"", str(len(body)))
    assert head.headers["ETag"] == got.headers["ETag"]


async def test_forms_of_a_file_have_tags_of_their_own(client: Client) -> None:
    forms = [
        await client.get("/assets/main-1a2b.js", headers={"Accept-Encoding": coding})
        for coding in ("br", "gzip", "identity")
    ]
    assert len({form.headers["ETag"] for form in forms}) == len(forms)
    unread = await client.get(
        "/assets/main-1a2b.js",
        headers={"Accept-Encoding": "gzip", "If-None-Match": forms[0].headers["ETag"]},
    )
    assert unread.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/secret.json",
        "/.vite/manifest.json",
        "/assets/",
        "/assets/main-1a2b.js.br",
        "/assets/notes.txt",
        "/assets/deeper/a.js",
        "/assets/../index.html",
        "/assets/..%2findex.html",
        "/assets/%2e%2e%2f%2e%2e%2fsecret.json",
        "/assets/..%5csecret.json",
        "/assets/main-1a2b.js%00",
        "/assets/%2fetc%2fpasswd",
        "/../secret.json",
        "//secret.json",
    ],
)
async def test_nothing_else_can_be_reached(client: Client, path: str) -> None:
    # By hand: a client would make the path a proper one.
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {client.host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"secret" not in answer


async def test_what_is_written_later_is_not_served(client: Client, built: Path) -> None:
    (built / "assets" / "late-5e6f.js").write_bytes(b"late")
    assert (await client.get("/assets/late-5e6f.js")).status == 404


async def test_nothing_from_elsewhere_is_allowed(client: Client) -> None:
    headers = (await client.get("/")).headers
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]


async def test_in_a_local_run_it_may_call_the_other_pods_and_the_control(built: Path) -> None:
    async with client_of(built, IN_A_LOCAL_RUN) as client:
        policy = (await client.get("/")).headers["Content-Security-Policy"]
    [allowed] = [rule.split()[1:] for rule in policy.split("; ") if rule.startswith("connect-src ")]
    sockets = [url.replace("http", "ws") for url in POD_URLS]
    assert sorted(allowed) == sorted(["'self'", *POD_URLS, *sockets, "http://127.0.0.1:7001"])


async def test_outside_a_local_run_the_page_has_its_own_origin_only(client: Client) -> None:
    got = await client.get("/page.json")
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert await got.json() == {"local": None, "pods": [], "version": __version__}


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8081", "LOCALHOST:8080"])
async def test_the_key_is_given_to_who_asked_for_this_machine(built: Path, host: str) -> None:
    async with client_of(built, IN_A_LOCAL_RUN) as client:
        got = await client.get("/page.json", headers={"Host": host})
        assert await got.json() == {
            "local": {"controlUrl": "http://127.0.0.1:7001", "controlKey": "key-of-this-run"},
            "pods": list(POD_URLS),
            "version": __version__,
        }


@pytest.mark.parametrize(
    "host", ["evil.example:8080", "evil.example", "127.0.0.1:9999", "127.0.0.1.evil.example:8080"]
)
async def test_neither_key_nor_pods_are_given_to_another_name(built: Path, host: str) -> None:
    async with client_of(built, IN_A_LOCAL_RUN) as client:
        got = await client.get("/page.json", headers={"Host": host})
        assert await got.json() == {"local": None, "pods": [], "version": __version__}


async def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    async with client_of(tmp_path / "nothing") as client:
        got = await client.get("/")
        assert (got.status, got.content_type) == (503, "text/html")
        assert "make browser" in await got.text()
        assert "script-src 'self'" in got.headers["Content-Security-Policy"]
        assert got.headers["Cache-Control"] == "no-store"
        assert (await client.get("/page.json")).status == 200
