"""The origin rule as a pure function; the matrix over HTTP is in tests/integration/websocket/test_origin.py."""

from __future__ import annotations

import pytest

from session_service.websocket.origin import allowed_origins, may_connect

OWN = "https://app.example.com"


def test_no_origin_is_no_browser() -> None:
    assert may_connect([], OWN, frozenset())


@pytest.mark.parametrize("origin", [OWN, "https://APP.example.com", "https://app.example.com:443"])
def test_the_same_origin_however_it_is_written(origin: str) -> None:
    assert may_connect([origin], OWN, frozenset())


@pytest.mark.parametrize(
    "origin",
    [
        "", "null", "http://app.example.com", "https://app.example.com:444", "https://app.example.com/",
        "https://x.app.example.com", "https://app.example.com.evil", "https://user@app.example.com", "https://",
        "https://app.example.com:", "https://app.example.com:port", "ws://app.example.com", "app.example.com",
        "https://app.example.com https://app.example.com", "https://app.example.com#", "https://app.example.com?",
        "https://äpp.example.com", "https://app.example.com\x00", "javascript:alert(1)", "https://[::1",
    ],
)  # fmt: skip
def test_every_other_origin_is_refused(origin: str) -> None:
    assert not may_connect([origin], OWN, frozenset())


def test_two_origin_headers_are_refused_even_when_both_are_right() -> None:
    assert not may_connect([OWN, OWN], OWN, frozenset({OWN}))


def test_listed_origins() -> None:
    allowed = allowed_origins(["https://Other.example:443", "http://localhost:3000"])
    assert may_connect(["https://other.example"], OWN, allowed)
    assert may_connect(["http://localhost:3000"], OWN, allowed)
    assert not may_connect(["http://localhost:3001"], OWN, allowed)


def test_a_star_admits_every_page_but_not_null() -> None:
    allowed = allowed_origins(["*"])
    assert may_connect(["https://anything.example"], OWN, allowed)
    assert not may_connect(["null"], OWN, allowed)
    assert not may_connect(["nonsense"], OWN, allowed)
