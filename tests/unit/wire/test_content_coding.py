"""Which encoding a client gets, by its Accept-Encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.wire.content_coding import IDENTITY, choose_coding

BOTH = ("br", "gzip")


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        (None, IDENTITY),
        ("", IDENTITY),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, deflate", "gzip"),
        ("GZIP", "gzip"),
        ("br;q=0.5, gzip;q=0.8", "gzip"),
        ("br; q=0, gzip", "gzip"),
        ("br;q=0, gzip;q=0", IDENTITY),
        ("gzip;q=0.5, identity", IDENTITY),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("*", "br"),
        ("br;q=0, *;q=0.1", "gzip"),
        ("zstd", IDENTITY),
        ("identity;q=0", IDENTITY),
        ("br;q=many, gzip;q=2, *;q=nan", IDENTITY),
        ("br;level=4", "br"),
    ],
)
def test_the_highest_weight_is_chosen_and_of_equals_the_first(accept_encoding: str | None, expected: str) -> None:
    assert choose_coding(accept_encoding, BOTH) == expected


def test_what_is_not_available_is_not_chosen() -> None:
    assert choose_coding("br, gzip;q=0.1", ("gzip",)) == "gzip"
    assert choose_coding("br, gzip", ()) == IDENTITY


@given(st.text(alphabet="brgzipidentity*,;=q0.123 \t", max_size=60))
def test_any_header_has_an_answer(accept_encoding: str) -> None:
    assert choose_coding(accept_encoding, BOTH) in {*BOTH, IDENTITY}
