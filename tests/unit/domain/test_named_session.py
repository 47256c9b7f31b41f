"""Whose named sessions are, and what can be a title."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.named_session import MAX_TITLE_LENGTH, MAX_USER_ID, title_fault, user_id_of


@given(st.integers(1, MAX_USER_ID))
def test_a_number_is_the_user(number: int) -> None:
    assert user_id_of(str(number)) == number


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "0",
        "-1",
        "+1",
        "01",
        " 1",
        "1 ",
        "1\n",
        "1.0",
        "1e3",
        "1_000",
        "¹",
        "١",
        "one",
        str(MAX_USER_ID + 1),
        "9" * 400,
    ],
)
def test_anything_else_is_no_user(subject: str) -> None:
    assert user_id_of(subject) is None


@pytest.mark.parametrize(
    "title",
    ["a", "/", "..", " ", "\n", "\x01", "é", "😀" * MAX_TITLE_LENGTH, "\ufffe", "active", "a" * MAX_TITLE_LENGTH],
)
def test_titles(title: str) -> None:
    assert title_fault(title) is None


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("", "string_too_short"),
        ("a" * (MAX_TITLE_LENGTH + 1), "string_too_long"),
        ("a\0b", "value_error"),
        ("\ud800", "string_unicode"),
        ("a\udfff", "string_unicode"),
    ],
)
def test_what_is_no_title(title: str, kind: str) -> None:
    fault = title_fault(title)
    assert fault is not None
    assert fault[0] == kind
