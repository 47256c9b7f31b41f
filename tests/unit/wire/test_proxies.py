"""Proxy headers: believed from trusted peers only, and never further than the first stranger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from session_service.wire.proxies import client_address, external_origin, serialized_origin, trusted_networks

TRUSTED = trusted_networks(["10.0.0.0/8", "fd00::/8", "192.0.2.7"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("203.0.113.5", None, "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),  # a stranger's claim
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # 1.1.1.1 came from the client
        ("10.0.0.1", "198.51.100.1, 10.2.2.2, 192.0.2.7", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:51000", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::9]:443", "2001:db8::9"),
        ("10.0.0.1", "2001:db8::9", "2001:db8::9"),
        ("fd00::1", "198.51.100.1", "198.51.100.1"),
        ("fd00::1%eth0", "198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, garbage, 10.2.2.2", "10.2.2.2"),
        ("10.0.0.1", "10.3.3.3", "10.3.3.3"),  # every hop is ours: the outermost is the best there is
        (None, "198.51.100.1", None),
        ("", "198.51.100.1", None),
    ],
)
def test_client_address(peer: str | None, forwarded_for: str | None, expected: str | None) -> None:
    headers = CIMultiDict({} if forwarded_for is None else {"X-Forwarded-For": forwarded_for})
    assert client_address(peer, headers, TRUSTED) == expected


def test_nothing_is_trusted_by_default() -> None:
    assert client_address("127.0.0.1", CIMultiDict({"X-Forwarded-For": "198.51.100.1"}), ()) == "127.0.0.1"


def test_several_header_lines_are_one_list() -> None:
    forged_then_real = CIMultiDict([("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-for", "198.51.100.1")])
    assert client_address("10.0.0.1", forged_then_real, TRUSTED) == "198.51.100.1"


@given(st.text(max_size=200))
def test_any_header_gives_an_address(forwarded_for: str) -> None:
    address = client_address("10.0.0.1", CIMultiDict({"X-Forwarded-For": forwarded_for}), TRUSTED)
    assert address is not None
    assert trusted_networks([address])


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("203.0.113.5", {}, "http://pod:8080"),
        ("203.0.113.5", {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}, "http://pod:8080"),
        (
            "10.0.0.1",
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.com"},
            "https://app.example.com",
        ),
        ("10.0.0.1", {"X-Forwarded-Proto": "https"}, "https://pod:8080"),
        (
            "10.0.0.1",
            {"X-Forwarded-Proto": "wss", "X-Forwarded-Host": "App.Example.com:443"},
            "https://app.example.com",
        ),
        ("10.0.0.1", {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "a.example, b"}, "https://a.example"),
        (None, {"X-Forwarded-Proto": "https"}, "http://pod:8080"),
    ],
)
def test_external_origin(peer: str | None, headers: dict[str, str], expected: str) -> None:
    assert external_origin("http", "pod:8080", CIMultiDict(headers), peer, TRUSTED) == expected


@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [
        ("http", "a.example:80", "http://a.example"),
        ("https", "a.example:443", "https://a.example"),
        ("https", "a.example:80", "https://a.example:80"),
        ("HTTP", "A.example:8080", "http://a.example:8080"),
        ("http", "[::1]:80", "http://[::1]"),
    ],
)
def test_default_ports_are_left_out(scheme: str, host: str, expected: str) -> None:
    assert serialized_origin(scheme, host) == expected
