"""Document 004, "Token Requirements", and interface §5: every endpoint needs a valid token with a user's number."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from tests.support.named_client import NamedClient
from tests.support.service import SECRET_KEY, Service, bearer, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDPOINTS = [("GET", "/"), ("GET", "/active"), ("POST", "/"), ("POST", "/active/A"), ("DELETE", "/A")]


def signed(claims: dict[str, Any]) -> str:
    return "Bearer " + jwt.encode({"exp": time.time() + 600, **claims}, SECRET_KEY, "HS256")


REFUSED: dict[str, str | None] = {
    "no header": None,
    "empty": "",
    "another scheme": "Basic dXNlcjpwYXNz",
    "no token": "Bearer",
    "no JWT": "Bearer nonsense",
    "token without scheme": token("7"),
    "expired": f"Bearer {token('7', ttl_s=-60)}",
    "another key": f"Bearer {token('7', secret='another-secret-key-0123456789-0123456789')}",
    "unsigned": "Bearer " + jwt.encode({"sub": "7", "exp": time.time() + 600}, "", "none"),
    "no expiry": "Bearer " + jwt.encode({"sub": "7"}, SECRET_KEY, "HS256"),
    "no subject": signed({}),
    "empty subject": signed({"sub": ""}),
    "a name": signed({"sub": "user-1"}),
    "zero": signed({"sub": "0"}),
    "negative": signed({"sub": "-7"}),
    "2^31": signed({"sub": str(2**31)}),
    "a fraction": signed({"sub": "7.0"}),
    "an exponent": signed({"sub": "7e0"}),
    "digits of another script": signed({"sub": "\u0667"}),
}


@pytest.mark.parametrize("authorization", REFUSED.values(), ids=REFUSED.keys())
async def test_every_endpoint_refuses_alike(service: Service, user: NamedClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    bodies = set()
    for method, path in ENDPOINTS:
        async with service.http.request(method, user.url(path), headers=headers, json={"title": "A"}) as response:
            assert response.status == 401, (method, path)
            assert response.headers["WWW-Authenticate"] == "Bearer"
            body = await response.json()
            assert body.keys() == {"detail"}
            bodies.add(body["detail"])
    assert len(bodies) == 1


async def test_the_token_is_looked_at_before_the_body(service: Service, user: NamedClient) -> None:
    async with service.http.post(user.url("/"), data=b"{") as response:
        assert response.status == 401


@pytest.mark.parametrize("subject", ["1", str(2**31 - 1)])
async def test_the_first_and_the_last_user_number(service: Service, user: NamedClient, subject: str) -> None:
    async with service.http.get(user.url("/"), headers=bearer(subject)) as response:
        assert response.status == 200


async def test_the_user_is_the_tokens_subject(user: NamedClient) -> None:
    _status, body = await user.call("POST", "/", json={"title": "A"})
    assert body["user_id"] == user.user_id


async def test_a_subject_that_is_an_integer_counts_as_its_decimal_text(service: Service, user: NamedClient) -> None:
    await user.create("A")
    headers = {"Authorization": signed({"sub": user.user_id})}
    async with service.http.get(user.url("/"), headers=headers) as response:
        assert response.status == 200
        assert [session["title"] for session in await response.json()] == ["A"]


async def test_the_scheme_is_read_in_any_case(service: Service, user: NamedClient) -> None:
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {token(str(user.user_id))}"}
        async with service.http.get(user.url("/"), headers=headers) as response:
            assert response.status == 200, scheme
