"""Titles of any characters, in bodies and in paths (interface §5): 1 to 1,000 of them, no NUL."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.support.named_client import NamedClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

TITLES = {
    "spaces": " a  b ",
    "one space": " ",
    "slash": "a/b",
    "slashes": "/a//b/",
    "one slash": "/",
    "encoded slash": "a%2Fb",
    "percent": "100%",
    "plus": "a+b",
    "question mark": "why?",
    "hash": "C#",
    "ampersand": "a&b=c;d",
    "dots": "../../etc/passwd",
    "one dot": ".",
    "two dots": "..",
    "quotes": 'it\'s "so"',
    "SQL": "'; DROP TABLE sessions; --",
    "backslash": "a\\b",
    "braces": "{title}",
    "line break": "a\nb\r\nc",
    "control characters": "\x01\x1f\x7f",
    "emoji": "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "other scripts": "資料分析 тест عربى",
    "combining": "e\u0301",
    "a name of the API": "active",
    "below a name of the API": "active/A",
    "1,000 characters": "x" * 1000,
    "1,000 characters of four bytes": "\U0001f600" * 1000,
}


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES.keys())
async def test_any_title_can_be_created_activated_and_deleted(user: NamedClient, title: str) -> None:
    session_id = await user.create(title)
    await user.create("another")
    encoded = quote(title, safe="")
    expected = {"detail": f"'{title}' set as active session for user_id={user.user_id}"}
    assert await user.call("POST", f"/active/{encoded}") == (200, expected)
    assert await user.active() == session_id
    assert await user.titles() == {title: True, "another": False}
    await user.call("POST", "/active/another")
    assert await user.call("DELETE", f"/{encoded}") == (200, {"detail": "Session deleted successfully"})
    assert await user.titles() == {"another": True}


async def test_a_slash_may_stand_as_it_is(user: NamedClient) -> None:
    session_id = await user.create("a/b c/d")
    await user.create("B")
    assert (await user.call("POST", "/active/a/b%20c/d"))[0] == 200
    assert await user.active() == session_id
    await user.call("POST", "/active/B")
    assert (await user.call("DELETE", "/a/b%20c/d"))[0] == 200


async def test_an_escaped_percent_is_decoded_once(user: NamedClient) -> None:
    await user.create("a/b")
    await user.create("a%2Fb")
    assert (await user.call("DELETE", "/a%2Fb"))[0] == 200
    assert await user.titles() == {"a%2Fb": True}


async def test_a_query_is_no_part_of_the_title(user: NamedClient) -> None:
    await user.create("A")
    await user.create("B")
    assert (await user.call("POST", "/active/A?x=1"))[0] == 200
    assert await user.titles() == {"A": True, "B": False}


REFUSED = {"empty": "", "too long": "x" * 1001, "NUL": "\x00", "NUL inside": "a\x00b"}


@pytest.mark.parametrize("title", REFUSED.values(), ids=REFUSED.keys())
async def test_a_title_that_cannot_be_is_422_in_the_body(user: NamedClient, title: str) -> None:
    status, body = await user.call("POST", "/", json={"title": title})
    assert status == 422
    (problem,) = body["detail"]
    assert problem["loc"] == ["body", "title"]
    assert problem["input"] == title
    assert await user.titles() == {}


@pytest.mark.parametrize("encoded", ["%00", "a%00b", "x" * 1001], ids=["NUL", "NUL inside", "too long"])
async def test_a_title_that_cannot_be_is_422_in_the_path(user: NamedClient, encoded: str) -> None:
    for method, path in (("POST", f"/active/{encoded}"), ("DELETE", f"/{encoded}")):
        status, body = await user.call(method, path)
        assert status == 422, (method, path)
        (problem,) = body["detail"]
        assert problem["loc"] == ["path", "title"]
        assert problem.keys() >= {"type", "loc", "msg", "input"}


@pytest.mark.parametrize("encoded", ["%FF", "%ED%A0%80", "a%C3"], ids=["no UTF-8", "surrogate", "cut short"])
async def test_a_path_that_is_not_utf_8_is_a_client_error(user: NamedClient, encoded: str) -> None:
    for method, path in (("POST", f"/active/{encoded}"), ("DELETE", f"/{encoded}")):
        status, body = await user.call(method, path)
        assert status in {404, 422}, (method, path)
        assert body.keys() == {"detail"}
