"""Answers already given to order requests, so that a repeated request never places a second order. Pure."""

from collections import OrderedDict
from typing import Generic, TypeVar

from exchange_simulator.errors import RequestIdReusedError

MAX_REQUESTS = 100_000
Answer = TypeVar("Answer")


class RequestLog(Generic[Answer]):
    """The last MAX_REQUESTS request ids with their content and first answer; the oldest are forgotten first."""

    def __init__(self, max_requests: int = MAX_REQUESTS) -> None:
        self._max_requests = max_requests
        self._answers: OrderedDict[str, tuple[bytes, Answer]] = OrderedDict()

    def find(self, request_id: str, content: bytes) -> Answer | None:
        """The answer given before, None for a new id; RequestIdReusedError when the content was another."""
        known = self._answers.get(request_id)
        if known is None:
            return None
        if known[0] != content:
            raise RequestIdReusedError
        return known[1]

    def remember(self, request_id: str, content: bytes, answer: Answer) -> None:
        """Keeps the first answer to a new id."""
        self._answers[request_id] = (content, answer)
        if len(self._answers) > self._max_requests:
            self._answers.popitem(last=False)
