"""When a token has to be renewed, and that nothing shows it."""

import base64
import json

import pytest
from session_service_client.access_token import TokenSource, expiry_s, refresh_again_in_s, refresh_in_s


def jwt(**payload: object) -> str:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part(payload)}.c2lnbmF0dXJl"


def test_the_expiry_is_read_without_a_key() -> None:
    assert expiry_s(jwt(sub="u", exp=1700000000)) == 1700000000.0


@pytest.mark.parametrize(
    "token", ["opaque", "a.b", "a.!.c", "a.bnVsbA.c", jwt(sub="u"), jwt(exp="soon"), jwt(exp=True)]
)
def test_a_token_without_a_readable_expiry_is_never_renewed(token: str) -> None:
    assert expiry_s(token) is None
    assert refresh_in_s(token, 0.0) is None


@pytest.mark.parametrize(("left_s", "renewed_in_s"), [(3600, 3540), (300, 240), (100, 80), (10, 8), (1, 1), (-5, 1)])
def test_it_is_renewed_a_minute_or_a_fifth_of_its_time_before_its_end(left_s: int, renewed_in_s: float) -> None:
    assert refresh_in_s(jwt(exp=1000 + left_s), 1000.0) == renewed_in_s


def test_a_renewal_that_brought_nothing_is_tried_again_before_the_end() -> None:
    assert refresh_again_in_s(jwt(exp=1060), 1000.0) == 30.0
    assert refresh_again_in_s(jwt(exp=1000), 1000.0) == 1.0


async def test_a_callable_is_asked_each_time() -> None:
    tokens = iter(["one", "two"])

    async def get() -> str:
        return next(tokens)

    source = TokenSource(get)
    assert source.renewable
    assert [await source.get(), await source.get()] == ["one", "two"]
    assert not TokenSource("text").renewable
    assert await TokenSource("text").get() == "text"


def test_it_is_in_no_repr() -> None:
    assert "secret" not in repr(TokenSource("secret"))
