"""HTTP 422 (document 004, "Error Handling"; interface §5): a list of what is wrong with the body."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.named_client import NamedClient
from tests.support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Raw body, and the problem's type, loc and input as FastAPI and pydantic say it. Places of syntax errors are counted
# in characters; their input is an empty object.
INVALID: dict[str, tuple[bytes, str, list[Any], Any]] = {
    "no body": (b"", "missing", ["body"], None),
    "cut short": (b"{", "json_invalid", ["body", 1], {}),
    "text": (b"title", "json_invalid", ["body", 0], {}),
    "two values": (b'{"title":"A"} x', "json_invalid", ["body", 14], {}),
    "single quotes": (b"{'title':'A'}", "json_invalid", ["body", 1], {}),
    "no value": (b'{"title":}', "json_invalid", ["body", 9], {}),
    "an open string": (b'{"title":"A', "json_invalid", ["body", 9], {}),
    "a control character": (b'{"title":"a\nb"}', "json_invalid", ["body", 11], {}),
    "an array": (b"[]", "model_attributes_type", ["body"], []),
    "a string": (b'"A"', "model_attributes_type", ["body"], "A"),
    "a number": (b"5", "model_attributes_type", ["body"], 5),
    "no title": (b"{}", "missing", ["body", "title"], {}),
    "another case": (b'{"Title":"A"}', "missing", ["body", "title"], {"Title": "A"}),
    "null": (b'{"title":null}', "string_type", ["body", "title"], None),
    "an integer": (b'{"title":5}', "string_type", ["body", "title"], 5),
    "a boolean": (b'{"title":true}', "string_type", ["body", "title"], True),
    "a list": (b'{"title":["A"]}', "string_type", ["body", "title"], ["A"]),
    "an object": (b'{"title":{"a":1}}', "string_type", ["body", "title"], {"a": 1}),
}


@pytest.mark.parametrize(("raw", "kind", "loc", "given"), INVALID.values(), ids=INVALID.keys())
async def test_an_invalid_body(user: NamedClient, raw: bytes, kind: str, loc: list[Any], given: Any) -> None:
    status, body = await user.call(
        "POST", "/", data=raw, headers={**user.headers, "Content-Type": "application/json"}
    )
    assert status == 422
    assert body.keys() == {"detail"}
    (problem,) = body["detail"]
    assert {"type", "loc", "msg", "input"} <= problem.keys()
    assert (problem["type"], problem["loc"], problem["input"]) == (kind, loc, given)
    assert isinstance(problem["msg"], str)
    assert await user.titles() == {}


ODD: dict[str, bytes] = {
    "no UTF-8": b'{"title":"\xff"}',
    "a lone surrogate": b'{"title":"\\ud800"}',
    "not a number": b'{"title":NaN}',
    "a number without end": b'{"title":' + b"9" * 5000 + b"}",
    "nested deeply": b'{"title":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "nested deeply and cut short": b"[" * 60_000,
    "NUL": b"\x00",
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD.keys())
async def test_what_no_title_can_be_read_from_is_422_too(user: NamedClient, raw: bytes) -> None:
    status, body = await user.call("POST", "/", data=raw)
    assert status == 422
    (problem,) = body["detail"]
    assert {"type", "loc", "msg", "input"} <= problem.keys()


async def test_a_body_beyond_the_limit(user: NamedClient) -> None:
    raw = b'{"title":"A"}'
    assert (await user.call("POST", "/", data=raw.ljust(64 * 1024)))[0] == 200
    status, body = await user.call("POST", "/", data=raw.ljust(64 * 1024 + 1))
    assert status == 413
    assert body.keys() == {"detail"}


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "text/plain", ""])
async def test_the_content_type_decides_nothing(user: NamedClient, content_type: str) -> None:
    headers = {**user.headers, "Content-Type": content_type}
    assert (await user.call("POST", "/", data=b' {"title":"A"}\n', headers=headers))[0] == 200


async def test_a_body_where_none_is_expected_is_ignored(service: Service, user: NamedClient) -> None:
    await user.create("A")
    for method, path in (("GET", "/"), ("GET", "/active"), ("POST", "/active/A")):
        async with service.http.request(method, user.url(path), headers=user.headers, data=b"{") as response:
            assert response.status == 200, path
