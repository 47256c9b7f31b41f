"""Which URL comes next."""

import pytest
from session_service_client.endpoints import Endpoints

A, B, C = "http://a", "http://b", "http://c"


def test_a_url_serves_until_it_is_left() -> None:
    endpoints = Endpoints([A + "/", B])
    assert endpoints.choose(0.0) == (A, 0.0)
    assert endpoints.choose(1.0) == (A, 0.0)


def test_the_one_that_was_left_comes_last() -> None:
    endpoints = Endpoints([A, B, C])
    seen = []
    for _ in range(6):
        url, _wait_s = endpoints.choose(0.0)
        seen.append(url)
        endpoints.leave(url)
    assert seen == [A, B, C, A, B, C]


def test_one_that_asked_to_be_left_alone_is_passed_over() -> None:
    endpoints = Endpoints([A, B])
    endpoints.leave(A, not_before_s=10.0)
    endpoints.leave(B)
    assert endpoints.choose(5.0) == (B, 0.0)
    endpoints.leave(B)
    assert endpoints.choose(10.0) == (A, 0.0)


def test_where_all_asked_the_first_to_be_ready_is_waited_for() -> None:
    endpoints = Endpoints([A, B])
    endpoints.leave(A, not_before_s=10.0)
    endpoints.leave(B, not_before_s=7.0)
    assert endpoints.choose(5.0) == (B, 2.0)


def test_no_url_is_refused() -> None:
    with pytest.raises(ValueError, match="base URL"):
        Endpoints([])
