"""A repeated request places no second order."""

import pytest

from exchange_simulator.errors import RequestIdReusedError
from exchange_simulator.request_log import RequestLog


def test_same_content_gets_the_first_answer_other_content_is_refused() -> None:
    log: RequestLog[str] = RequestLog()
    assert log.find("r", b"buy 1") is None
    log.remember("r", b"buy 1", "order 1")
    assert log.find("r", b"buy 1") == "order 1"
    with pytest.raises(RequestIdReusedError):
        log.find("r", b"buy 2")


def test_the_oldest_ids_are_forgotten() -> None:
    log: RequestLog[int] = RequestLog(max_requests=3)
    for number in range(5):
        log.remember(str(number), b"", number)
    assert [log.find(str(number), b"") for number in range(5)] == [None, None, 2, 3, 4]
