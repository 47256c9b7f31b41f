"""Bodies and paths of named sessions: what is read, and how it is told what is wrong."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.named_session import title_fault
from session_service.errors import InvalidInputError
from session_service.wire.named_sessions import decode_new_session, encode_problems, title_of_path

TITLES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=1000)


def problem(raw: bytes) -> dict[str, Any]:
    """The one problem of this body, as the answer has it."""
    with pytest.raises(InvalidInputError) as caught:
        decode_new_session(raw)
    body = json.loads(encode_problems(caught.value))
    assert body.keys() == {"detail"}
    (only,) = body["detail"]
    assert list(only) == ["type", "loc", "msg", "input"]
    found: dict[str, Any] = only
    return found


@given(TITLES)
def test_a_title_survives_a_body(title: str) -> None:
    for ascii_only in (True, False):
        body = json.dumps({"title": title, "active": False}, ensure_ascii=ascii_only).encode()
        assert decode_new_session(body).title == title


@given(TITLES)
def test_a_title_survives_a_path(title: str) -> None:
    for safe in ("", "/"):
        assert title_of_path(f"/api/v1/sessions/{quote(title, safe=safe)}", 4) == title
        assert title_of_path(f"/api/v1/sessions/active/{quote(title, safe=safe)}", 5) == title


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(raw: bytes) -> None:
    try:
        title = decode_new_session(raw).title
    except InvalidInputError as error:
        told = json.loads(encode_problems(error))["detail"]
    else:
        told = title_fault(title) is None
    assert told


@pytest.mark.parametrize(
    ("raw", "kind", "loc", "shown"),
    [
        (b"", "missing", ["body"], None),
        (b"null", "model_attributes_type", ["body"], None),
        (b"[1]", "model_attributes_type", ["body"], [1]),
        (b'"title"', "model_attributes_type", ["body"], "title"),
        (b'{"name": 1}', "missing", ["body", "title"], {"name": 1}),
        (b'{"title": 5}', "string_type", ["body", "title"], 5),
        (b'{"title": null}', "string_type", ["body", "title"], None),
        (b'{"title": ["a"]}', "string_type", ["body", "title"], ["a"]),
        (
            b'{"title": 123456789012345678901234567890}',
            "string_type",
            ["body", "title"],
            123456789012345678901234567890,
        ),
        (b'{"title": ""}', "string_too_short", ["body", "title"], ""),
        (b'{"title": "a\\u0000"}', "value_error", ["body", "title"], "a\0"),
        (b'{"title": "\\ud800"}', "string_unicode", ["body", "title"], "?"),
        (b'{"other": "\\ud800"}', "missing", ["body", "title"], {"other": "?"}),
        (b'{"title"', "json_invalid", ["body", 8], {}),
        (b'{"title": "a"} x', "json_invalid", ["body", 15], {}),
        (b'{"title": "\xff"}', "json_invalid", ["body", 11], {}),
        (b'{"title": NaN}', "json_invalid", ["body", 0], {}),
        (b"[" * 60_000, "json_invalid", ["body", 0], {}),
        (b"1" * 5_000, "json_invalid", ["body", 0], {}),
    ],
)
def test_what_is_wrong_is_told(raw: bytes, kind: str, loc: list[Any], shown: Any) -> None:
    told = problem(raw)
    assert (told["type"], told["loc"], told["input"]) == (kind, loc, shown)
    assert told["msg"]


def test_a_title_that_is_too_long_is_told_whole() -> None:
    told = problem(json.dumps({"title": "a" * 1001}).encode())
    assert (told["type"], told["input"]) == ("string_too_long", "a" * 1001)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/sessions/%00", "value_error"),
        ("/api/v1/sessions/%ff", "string_unicode"),
        ("/api/v1/sessions/\udcff", "string_unicode"),
        ("/api/v1/sessions/%ED%A0%80", "string_unicode"),  # a lone surrogate as CESU-8
        ("/api/v1/sessions/" + "a" * 1001, "string_too_long"),
    ],
)
def test_a_path_that_has_no_title(path: str, kind: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        title_of_path(path, 4)
    told = json.loads(encode_problems(caught.value))["detail"][0]
    assert (told["type"], told["loc"]) == (kind, ["path", "title"])


@pytest.mark.parametrize(
    ("encoded", "title"),
    [
        ("a/b", "a/b"),
        ("a%2fb", "a/b"),
        ("a/", "a/"),
        ("/", "/"),
        ("..", ".."),
        ("a+b", "a+b"),
        ("%2525", "%25"),
        ("%", "%"),
    ],
)
def test_a_path_is_taken_as_it_is(encoded: str, title: str) -> None:
    assert title_of_path(f"/api/v1/sessions/{encoded}", 4) == title


def test_the_prefix_may_be_encoded_too() -> None:
    assert title_of_path("/api/v1/sessions/%61ctive/a", 5) == "a"
