"""What a request's headers tell of its client."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from session_service.errors import AuthenticationError
from session_service.wire.request_headers import bearer_token, client_info


@pytest.mark.parametrize(
    ("user_agent", "kept"),
    [
        (None, None),
        ("curl/8.5", "curl/8.5"),
        ("x" * 600, "x" * 512),
        ("tab\there", "tab?here"),
    ],
)
def test_user_agents_are_cut_and_made_printable(user_agent: str | None, kept: str | None) -> None:
    headers = CIMultiDict({} if user_agent is None else {"User-Agent": user_agent})
    assert client_info("127.0.0.1", headers, ()).user_agent == kept


@pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "BEARER  abc "])
def test_the_token(value: str) -> None:
    assert bearer_token(CIMultiDict({"Authorization": value})) == "abc"


@pytest.mark.parametrize("value", ["", "abc", "Bearer", "Bearer ", "Basic abc", "Token abc", "Bearerabc"])
def test_another_scheme_or_an_empty_token_is_refused(value: str) -> None:
    with pytest.raises(AuthenticationError):
        bearer_token(CIMultiDict({"Authorization": value}))


def test_two_headers_are_refused() -> None:
    with pytest.raises(AuthenticationError):
        bearer_token(CIMultiDict([("Authorization", "Bearer good"), ("Authorization", "Bearer other")]))


def test_without_the_header_there_is_no_token() -> None:
    assert bearer_token(CIMultiDict({"X-Authorization": "Bearer abc"})) is None
