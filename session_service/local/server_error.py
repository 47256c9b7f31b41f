"""The error of a local run's own servers."""

from __future__ import annotations

from collections.abc import Sequence

from session_service.errors import SessionServiceError


class ServerStartError(SessionServiceError):
    """A server of the local run did not start. ``output`` is the end of what it said."""

    def __init__(self, server: str, problem: str, output: Sequence[str] = ()) -> None:
        super().__init__("\n".join([f"{server} did not start: {problem}", *(f"    {line}" for line in output)]))
        self.server = server
        self.output = tuple(output)
