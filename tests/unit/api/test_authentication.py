"""The Bearer token of a request."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from session_service.api.authentication import bearer_token
from session_service.errors import AuthenticationError


@pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "BEARER  abc "])
def test_the_token(value: str) -> None:
    assert bearer_token(make_mocked_request("GET", "/", {"Authorization": value})) == "abc"


@pytest.mark.parametrize("value", ["", "abc", "Bearer", "Bearer ", "Basic abc", "Token abc", "Bearerabc"])
def test_no_token(value: str) -> None:
    with pytest.raises(AuthenticationError):
        bearer_token(make_mocked_request("GET", "/", {"Authorization": value}))


def test_two_headers_are_refused() -> None:
    headers = CIMultiDict([("Authorization", "Bearer good"), ("Authorization", "Bearer other")])
    with pytest.raises(AuthenticationError):
        bearer_token(make_mocked_request("GET", "/", headers))


def test_a_token_in_the_query_is_none() -> None:
    with pytest.raises(AuthenticationError):
        bearer_token(make_mocked_request("GET", "/?token=abc"))
