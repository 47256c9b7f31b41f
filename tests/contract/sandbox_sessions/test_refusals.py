"""Who is refused, and how, on every route of sandbox sessions."""

from __future__ import annotations

import pytest

from session_service.api.openapi import OPERATIONS
from tests.support.sandbox_client import PATH, SandboxClient
from tests.support.service import Service, bearer, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = "1c2f5b0e-7d43-4a86-9b1f-0e6d2a9c4f71"  # fixed: it stands in names of tests
ROUTES = [
    (operation.method, operation.path, operation.body is not None)
    for operation in OPERATIONS
    if operation.path.startswith(PATH) and not operation.path.endswith("/events")
]


async def test_every_route_is_here() -> None:
    assert len(ROUTES) == 11


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer nonsense", f"Bearer {token(ttl_s=-60, scope='sandbox')}"],
    ids=["none", "no", "old"],
)
async def test_without_a_token_it_is_401(service: Service, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, template, _body in ROUTES:
        path = template.format(session_id=UNKNOWN)
        async with service.http.request(method, path, headers=headers, data=b"{") as response:
            assert response.status == 401, (method, path)
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert (await response.json())["code"] == "AUTHENTICATION_FAILED"


@pytest.mark.parametrize("scope", ["", "simulators", "sandboxes", "SANDBOX"])
async def test_without_the_scope_it_is_403(service: Service, scope: str) -> None:
    for method, template, _body in ROUTES:
        path = template.format(session_id=UNKNOWN)
        async with service.http.request(method, path, headers=bearer(scope=scope), data=b"{") as response:
            assert response.status == 403, (method, path)
            assert (await response.json())["code"] == "FORBIDDEN"
            challenge = response.headers["WWW-Authenticate"]
            assert challenge == 'Bearer error="insufficient_scope", scope="sandbox"'


@pytest.mark.parametrize("scope", ["sandbox", "simulators sandbox"])
async def test_the_scope_is_one_of_several_names(service: Service, scope: str) -> None:
    async with service.http.get(PATH, headers=bearer(scope=scope)) as response:
        assert response.status == 200


@pytest.mark.parametrize("session_id", [UNKNOWN, "x", "%00", UNKNOWN[:-1], UNKNOWN.replace("-", "")])
async def test_what_is_not_there_is_404(client: SandboxClient, session_id: str) -> None:
    bodies = {"/messages": {"message": 1}}
    for method, template, _body in ROUTES:
        path = template.removeprefix(PATH).format(session_id=session_id)
        if session_id not in path or path.endswith(("/extend", "/complete", "/fail")):
            continue
        tail = path.removeprefix(f"/{session_id}")
        body = bodies.get(tail, {}) if method != "GET" else None
        status, answer = await client.call(method, path, json=body)
        assert (status, answer["code"]) == (404, "SESSION_NOT_FOUND"), (method, path)


async def test_an_id_is_the_same_in_capitals(client: SandboxClient) -> None:
    made = await client.create()
    assert await client.get(made["id"].upper()) == made


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"a"', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_object_is_400(client: SandboxClient, body: bytes) -> None:
    for method, template, has_body in ROUTES:
        if has_body:
            path = template.removeprefix(PATH).format(session_id=UNKNOWN)
            status, answer = await client.call(method, path, data=body)
            assert (status, answer["code"]) == (400, "INVALID_REQUEST"), (method, path)


async def test_a_compressed_body_is_not_read(client: SandboxClient) -> None:
    headers = {**client.headers, "Content-Encoding": "gzip"}
    status, answer = await client.call("POST", "", data=b"{}", headers=headers)
    assert (status, answer["code"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inbox_status", "done"),
        ("inbox_status", "PENDING"),
        ("inbox_status", 1),
        ("parent", "x"),
        ("parent", 1),
        ("parent", UNKNOWN),
    ],
)
async def test_a_value_that_cannot_be_is_refused_by_its_field(
    client: SandboxClient, field: str, value: object
) -> None:
    made = await client.create()
    for method, path in (("POST", ""), ("PATCH", f"/{made['id']}")):
        status, answer = await client.call(method, path, json={field: value})
        assert (status, answer["code"]) == (400, "INVALID_REQUEST")
        assert answer["error"].startswith(f"{field}: ")
    assert await client.get(made["id"]) == made


async def test_another_method_is_405(client: SandboxClient) -> None:
    for method, path, allowed in (("PUT", "", "GET,HEAD,POST"), ("POST", f"/{UNKNOWN}", "DELETE,GET,HEAD,PATCH")):
        async with client.request(method, path, json={}) as response:
            assert response.status == 405
            assert set(allowed.split(",")) <= set(response.headers["Allow"].split(","))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/claim", "POST"),
        ("DELETE", "/claim", "POST"),
        ("HEAD", "/events", "GET"),
        ("PATCH", "/events", "GET"),
    ],
)
async def test_a_call_of_its_own_is_no_session_of_that_id(
    client: SandboxClient, method: str, path: str, allowed: str
) -> None:
    async with client.request(method, path) as response:
        assert response.status == 405
        assert response.headers["Allow"] == allowed
