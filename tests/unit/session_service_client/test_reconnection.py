"""What follows a lost socket, and a refused upgrade."""

import pytest
from session_service_client.reconnection import (
    Ask,
    Final,
    Retry,
    TokenState,
    after_answer,
    after_close,
    after_refusal,
)


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1011, 1012, 1013, 4008, 4009, 4029, 4408, 4499])
def test_these_closes_are_followed_by_another_connection(code: int | None) -> None:
    assert after_close(code, TokenState.FIXED) == Retry()


@pytest.mark.parametrize(
    ("code", "public"),
    [
        (4500, "PROTOCOL_ERROR"),
        (4501, "AUTHENTICATION_FAILED"),
        (4503, "SESSION_ENDED"),
        (4504, "CONNECTION_REPLACED"),
        (4506, "PROTOCOL_ERROR"),
        (4999, "PROTOCOL_ERROR"),
    ],
)
def test_these_closes_are_final_and_say_why(code: int, public: str) -> None:
    decision = after_close(code, TokenState.FIXED)
    assert isinstance(decision, Final)
    assert decision.code == public
    assert decision.reason


def test_a_refused_token_is_renewed_once_where_it_can_be() -> None:
    assert after_close(4501, TokenState.RENEWABLE) == Retry(fresh_token=True)
    assert isinstance(after_close(4501, TokenState.RENEWED), Final)
    assert after_refusal(401, None, TokenState.RENEWABLE) == Retry(fresh_token=True)
    assert isinstance(after_refusal(401, None, TokenState.RENEWED), Final)
    assert isinstance(after_refusal(401, None, TokenState.FIXED), Final)


def test_being_replaced_by_its_own_later_attempt_is_no_end() -> None:
    assert after_close(4504, TokenState.FIXED, superseded=True) == Retry()
    assert isinstance(after_close(4504, TokenState.FIXED, superseded=False), Final)
    assert isinstance(after_close(4503, TokenState.FIXED, superseded=True), Final)


@pytest.mark.parametrize("code", [4503, None, 1006])
def test_a_session_that_was_said_to_have_ended_is_over_however_the_socket_went(code: int | None) -> None:
    assert after_close(code, TokenState.FIXED, code="SESSION_ENDED", reason="expired") == Final(
        "SESSION_ENDED", "expired"
    )


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_service_that_cannot_now_is_asked_again_when_it_says_so(status: int) -> None:
    assert after_refusal(status, 3.0, TokenState.FIXED) == Retry(after_s=3.0)
    assert after_answer("SERVICE_UNAVAILABLE", "away", status, 3.0) == Retry(after_s=3.0)


@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 409, 410])
def test_another_refusal_is_explained_by_rest(status: int) -> None:
    assert after_refusal(status, None, TokenState.FIXED) == Ask()


def test_what_rest_refuses_is_final() -> None:
    assert after_answer("SESSION_EXPIRED", "gone", 410, None) == Final("SESSION_EXPIRED", "gone")
