"""Commands that wait for their answer, over as many sockets as it takes. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from session_service_client.errors import ServiceError, SessionServiceClientError


class Command:
    """``message`` is sent again, as it is, over each new socket until ``answer`` is there.

    That is safe: starts, stops, filters and refreshes may be made twice, and an order is known by its ``requestId``.
    ``sent_over`` is the socket that has it, by identity.
    """

    __slots__ = ("answer", "message", "sent_over")

    def __init__(self, message: Mapping[str, Any], answer: asyncio.Future[Mapping[str, Any]]) -> None:
        self.message = message
        self.answer = answer
        self.sent_over: object | None = None


class Commands:
    """The commands without an answer, by request id."""

    def __init__(self) -> None:
        self._waiting: dict[str, Command] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request_id: str, message: Mapping[str, Any]) -> Command:
        """Raises ValueError where the same request id waits already."""
        if request_id in self._waiting:
            raise ValueError(f"a command with the requestId {request_id!r} is waiting for its answer")
        command = Command(message, asyncio.get_running_loop().create_future())
        self._waiting[request_id] = command
        return command

    def remove(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)

    def unsent(self, socket: object) -> Iterator[Command]:
        """Those that this socket has not been given yet."""
        return iter([command for command in self._waiting.values() if command.sent_over is not socket])

    def answered(self, frame: Mapping[str, Any]) -> bool:
        """A frame with a ``requestId``: is it the answer to a command? An ``error`` frame is one too."""
        command = self._waiting.get(frame["requestId"])
        if command is None or command.answer.done():
            return False
        if frame["type"] == "error":
            command.answer.set_exception(ServiceError(frame["errorCode"], frame["message"]))
        elif frame.get("success", True) or frame.get("code") == "ORDER_REJECTED":  # an answer, and no error of ours
            command.answer.set_result(frame)
        else:
            code, words = frame.get("code", "UNKNOWN"), frame.get("error") or frame.get("message") or ""
            command.answer.set_exception(ServiceError(code, words))
        return True

    def fail(self, error: SessionServiceClientError) -> None:
        """The connection is over: nothing will be answered any more."""
        for command in self._waiting.values():
            if not command.answer.done():
                command.answer.set_exception(error)
