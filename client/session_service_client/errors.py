"""Everything this client raises. None of it holds a token, nor an object of aiohttp's that does."""

from __future__ import annotations


class SessionServiceClientError(Exception):
    """The root of the tree."""


class ServiceError(SessionServiceClientError):
    """The service answered, and said no.

    ``code`` is one of docs/errors.md, or ``UNKNOWN`` where the answer was not the service's (a proxy's page);
    ``status`` the HTTP status, None for an answer over the socket; ``retry_after_s`` what ``Retry-After`` asks for.
    """

    def __init__(
        self, code: str, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s


class TransportError(SessionServiceClientError):
    """No answer came: no connection, a lost one, or one that was too slow.

    ``sent``: whether the call may have reached the service.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class CommandTimeoutError(SessionServiceClientError, TimeoutError):
    """No answer to a command within its time, reconnections included. It may have been carried out."""


class ConnectionEndedError(SessionServiceClientError):
    """The live connection is over, and no reconnection would help.

    ``code`` is one of docs/errors.md, or ``SESSION_ENDED``, ``CONNECTION_REPLACED``, ``CLIENT_CLOSED`` (it was closed
    by its user), ``PROTOCOL_ERROR``; ``close_code`` is the socket's, None where an upgrade was refused.
    """

    def __init__(self, code: str, reason: str, *, close_code: int | None = None) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.close_code = close_code
