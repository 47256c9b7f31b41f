"""Who is refused, on every endpoint: bad tokens, foreign objects, ids that cannot be; and always the same way."""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any

import jwt
import pytest
from yarl import URL

from session_service.api.openapi import OPERATIONS
from tests.support.service import SECRET_KEY, Service, bearer, token

UNAUTHENTICATED = {
    "success": False,
    "code": "AUTHENTICATION_FAILED",
    "error": "Authentication failed",
    "errorMessage": "Authentication failed",
}
# Named sessions answer in their document's form: tests/contract/named_sessions.
LIVE_OPERATIONS = [operation for operation in OPERATIONS if not operation.path.startswith("/api/v1/")]
ENDPOINTS = [
    (operation.method, operation.path)
    for operation in LIVE_OPERATIONS
    if operation.authenticated and operation.path != "/ws"
]
FAKE_ID = "00000000-0000-4000-8000-000000000000"


def path_with(template: str, **ids: str) -> str:
    return template.format(**{"session_id": FAKE_ID, "simulator_id": FAKE_ID, "order_id": FAKE_ID, **ids})


def made_by_hand(algorithm: str, hash_name: str | None) -> str:
    """A token as the configured key would sign it, were its algorithm the configured one."""

    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    claims = f'{{"sub":"user-1","exp":{int(time.time()) + 600}}}'
    header = f'{{"alg":"{algorithm}","typ":"JWT"}}'
    message = f"{part(header.encode())}.{part(claims.encode())}"
    signature = hmac.digest(SECRET_KEY.encode(), message.encode(), hash_name) if hash_name else b""
    return f"{message}.{part(signature)}"


def signed(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, SECRET_KEY, "HS256")


BAD_AUTHORIZATION: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "another scheme": "Basic dXNlcjpwYXNz",
    "no token": "Bearer",
    "no JWT": "Bearer nonsense",
    "expired": f"Bearer {token(ttl_s=-60)}",
    "another key": f"Bearer {token(secret='another-secret-key-0123456789-0123456789')}",
    "unsigned": f"Bearer {made_by_hand('none', None)}",
    "another algorithm": f"Bearer {made_by_hand('HS384', 'sha384')}",
    "no expiry": f"Bearer {signed({'sub': 'user-1'})}",
    "no user": f"Bearer {signed({'exp': time.time() + 600})}",
    "empty user": f"Bearer {signed({'sub': '', 'exp': time.time() + 600})}",
    "with a tail": f"Bearer {token()}=",
    "too long": f"Bearer {'a' * 9000}",
}


@pytest.mark.parametrize("authorization", BAD_AUTHORIZATION.values(), ids=BAD_AUTHORIZATION.keys())
async def test_every_endpoint_refuses_a_bad_token_alike(service: Service, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, template in ENDPOINTS:
        # A body and an id that would be refused too: neither is looked at.
        for path in (path_with(template), path_with(template, session_id="%00", simulator_id="%00")):
            async with service.http.request(method, path, headers=headers, data=b"{") as response:
                assert response.status == 401, (method, path)
                assert response.headers["WWW-Authenticate"] == "Bearer"
                assert await response.json() == UNAUTHENTICATED


async def test_a_foreign_session_is_as_one_that_is_not_there(service: Service) -> None:
    async with service.http.post("/api/sessions", json={"deviceId": "d"}, headers=bearer("owner")) as response:
        session_id = (await response.json())["sessionId"]
    body = {"deviceId": "d", "attempt": 1, "sessionId": session_id}
    checked = 0
    for method, template in ENDPOINTS:
        if "{session_id}" not in template:
            continue
        answers = []
        for path in (path_with(template, session_id=session_id), path_with(template)):
            async with service.http.request(method, path, headers=bearer("stranger"), json=body) as response:
                answers.append((response.status, await response.json()))
        assert answers[0] == answers[1], (method, template)
        assert answers[0][0] == 404, (method, template)
        checked += 1
    assert checked == 6
    for method in ("GET", "DELETE"):
        path = f"/api/simulators?sessionId={session_id}"
        async with service.http.request(method, path, headers=bearer("stranger")) as response:
            assert (response.status, (await response.json())["code"]) == (404, "SESSION_NOT_FOUND")
    async with service.http.post("/api/simulators", headers=bearer("stranger"), json=body) as response:
        assert (response.status, (await response.json())["code"]) == (404, "SESSION_NOT_FOUND")
    async with service.http.get(f"/api/sessions/{session_id}", headers=bearer("owner")) as response:
        assert response.status == 200


async def test_the_scope_reads_and_changes_nothing(service: Service) -> None:
    async with service.http.post("/api/sessions", json={"deviceId": "d"}, headers=bearer("owner")) as response:
        path = f"/api/sessions/{(await response.json())['sessionId']}"
    trusted = bearer("a-service", scope="simulators")
    async with service.http.get(path, headers=trusted) as response:
        assert response.status == 200
    for method, route in (("DELETE", path), ("POST", f"{path}/keepalive")):
        async with service.http.request(method, route, headers=trusted) as response:
            assert response.status == 404, route


ODD_IDS = {
    "NUL": "%00",
    "NUL inside": "a%00b",
    "slash": "a%2Fb",
    "dots": "..%2F..%2Fetc",
    "quote": "'%3B%20DROP%20TABLE%20x--",
    "not UTF-8": "%FF%FE",
    "surrogate": "%ED%A0%80",
    "newline": "a%0Ab",
    "emoji": "%F0%9F%98%80",
    "percent": "%25",
    "braces": "%7Bsession_id%7D",
    "10 KB": "x" * 10_240,
}


@pytest.mark.parametrize("odd", ODD_IDS.values(), ids=ODD_IDS.keys())
async def test_an_odd_id_is_not_found(service: Service, odd: str) -> None:
    body = {
        "deviceId": "d",
        "attempt": 1,
        "symbol": "AAPL",
        "side": "BUY",
        "quantity": 1,
        "orderType": "MARKET",
        "requestId": "r",
    }
    for method, template in ENDPOINTS:
        if "{" not in template:
            continue
        path = template.format(session_id=odd, simulator_id=odd, order_id=odd)
        async with service.http.request(method, _raw(service, path), headers=bearer(), json=body) as response:
            assert response.status == 404, (method, template)
            # NOT_FOUND: the router itself takes no braces in an id.
            assert (await response.json())["code"].endswith("NOT_FOUND")


def _raw(service: Service, path: str) -> URL:
    return URL(f"{service.url}{path}", encoded=True)


async def test_odd_ids_in_queries_and_bodies(service: Service) -> None:
    for odd in ("%00", "a%00b", "%ED%A0%80", "x" * 300, ""):
        path = f"/api/simulators?sessionId={odd}"
        for method in ("GET", "DELETE"):
            async with service.http.request(method, _raw(service, path), headers=bearer()) as response:
                assert (response.status, (await response.json())["code"]) == (404, "SESSION_NOT_FOUND"), odd
    for odd in ("", "\x00", "x" * 300):
        async with service.http.post("/api/simulators", json={"sessionId": odd}, headers=bearer()) as response:
            assert (response.status, (await response.json())["code"]) == (404, "SESSION_NOT_FOUND"), odd
    for method in ("GET", "DELETE"):
        async with service.http.request(method, "/api/simulators", headers=bearer()) as response:
            assert (response.status, (await response.json())["code"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("path", ["/", "/nope", "/api", "/api/", "/api/sessions/", "/api/sessions//ready", "/%00"])
async def test_unknown_routes(service: Service, path: str) -> None:
    async with service.http.get(_raw(service, path), headers=bearer()) as response:
        assert (response.status, (await response.json())["code"]) == (404, "NOT_FOUND")


async def test_wrong_methods(service: Service) -> None:
    for template in {operation.path for operation in LIVE_OPERATIONS}:
        async with service.http.patch(path_with(template), headers=bearer()) as response:
            body = await response.json()
            assert (response.status, body["code"]) == (405, "METHOD_NOT_ALLOWED"), template
            documented = {operation.method for operation in LIVE_OPERATIONS if operation.path == template}
            assert set(response.headers["Allow"].split(",")) - {"HEAD"} == documented, template


async def test_a_user_with_an_odd_name_is_a_user(service: Service) -> None:
    for user in ("Ünïcødé", "a b", "'; --", "x" * 200):
        async with service.http.post("/api/sessions", json={"deviceId": "d"}, headers=bearer(user)) as response:
            assert response.status == 201, user
        async with service.http.get("/api/sessions", headers=bearer(user)) as response:
            assert [one["user_id"] for one in (await response.json())["sessions"]] == [user]


async def test_a_user_that_no_column_can_hold_is_refused(service: Service) -> None:
    for user in ("a\x00b", "\ud800"):
        bad = {"Authorization": f"Bearer {signed({'sub': user, 'exp': time.time() + 600})}"}
        async with service.http.post("/api/sessions", json={"deviceId": "d"}, headers=bad) as response:
            assert response.status == 401
