"""The whole error tree. Data lives in attributes; HTTP status codes live in ``api``, close codes in ``wire``.

``code`` is the public, stable name of an error (docs/errors.md). The message is meant for the person who reads the
answer: it names the field or the object, and never holds a token, a password or a stack trace.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec


class ErrorCode(StrEnum):
    """Every public error code of REST answers and WebSocket ``error`` and ``result`` frames."""

    INVALID_REQUEST = "INVALID_REQUEST"  # a field is missing, of the wrong type, or out of range
    AUTHENTICATION_FAILED = "AUTHENTICATION_FAILED"  # one code and one body for every failure of a token
    FORBIDDEN = "FORBIDDEN"  # the token lacks the scope that the call needs
    NOT_FOUND = "NOT_FOUND"  # no such route
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"  # also: the session of somebody else
    SESSION_EXPIRED = "SESSION_EXPIRED"  # its row is still there; nothing revives it
    SESSION_NOT_READY = "SESSION_NOT_READY"
    SESSION_REQUIRED = "SESSION_REQUIRED"  # the caller has none or several sessions and named none
    SESSION_LIMIT_REACHED = "SESSION_LIMIT_REACHED"  # MAX_SESSIONS_PER_USER, each with a socket
    DEVICE_MISMATCH = "DEVICE_MISMATCH"  # the session belongs to another device of the user
    CLAIM_LOST = "CLAIM_LOST"  # the work of a sandbox session is not, or no longer, claimed by this claim
    CONNECTION_REPLACED = "CONNECTION_REPLACED"  # WebSocket only: a later attempt of this client id is connected
    SIMULATOR_NOT_FOUND = "SIMULATOR_NOT_FOUND"
    SIMULATOR_NOT_RUNNING = "SIMULATOR_NOT_RUNNING"  # an order, or a refresh, without a running simulator
    SIMULATOR_LIMIT_REACHED = "SIMULATOR_LIMIT_REACHED"  # MAX_SIMULATORS_PER_USER
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    ORDER_REJECTED = "ORDER_REJECTED"  # the exchange took the order and refused it; the reason says why
    ORDER_NOT_CANCELABLE = "ORDER_NOT_CANCELABLE"  # already filled, canceled or rejected
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"  # the same requestId with another content
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    UNKNOWN_MESSAGE_TYPE = "UNKNOWN_MESSAGE_TYPE"  # WebSocket only; the socket stays open
    INVALID_MESSAGE = "INVALID_MESSAGE"  # WebSocket only: not JSON, not an object, no string type
    RATE_LIMITED = "RATE_LIMITED"
    ORIGIN_NOT_ALLOWED = "ORIGIN_NOT_ALLOWED"
    OVERLOADED = "OVERLOADED"  # this pod admits no more right now; Retry-After says when
    POD_TERMINATING = "POD_TERMINATING"  # this pod is draining; another one takes the request
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"  # a dependency is away; Retry-After says when
    INTERNAL_ERROR = "INTERNAL_ERROR"


class SessionServiceError(Exception):
    """Root of every error that this product raises on purpose."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# --- configuration -------------------------------------------------------------------------------------------


class ConfigurationError(SessionServiceError):
    """A setting is missing or wrong; the process ends with exit code 2 and this one line.

    ``was`` is already masked where the variable is a secret.
    """

    def __init__(self, variable: str, must_be: str, was: str | None = None) -> None:
        shown = "it is not set" if was is None else f"it was {was}"
        super().__init__(f"{variable} must be {must_be}; {shown}")
        self.variable = variable
        self.must_be = must_be
        self.was = was


# --- the request ---------------------------------------------------------------------------------------------


class InvalidRequestError(SessionServiceError):
    """A field of the body, the query or the path is wrong. ``field`` is its public name, camelCase."""

    code = ErrorCode.INVALID_REQUEST

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class UnknownSymbolError(InvalidRequestError):
    code = ErrorCode.UNKNOWN_SYMBOL

    def __init__(self, symbol: str) -> None:
        super().__init__("symbols", f"{symbol!r} is not traded by this simulator")
        self.symbol = symbol


class PayloadTooLargeError(SessionServiceError):
    """A body, or one field of it, has more bytes than there may be."""

    code = ErrorCode.PAYLOAD_TOO_LARGE

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class AuthenticationError(SessionServiceError):
    """A token is absent or refused. ``reason`` is for logs and metrics; every caller sees the same message."""

    code = ErrorCode.AUTHENTICATION_FAILED

    def __init__(self, reason: str) -> None:
        super().__init__("Authentication failed")
        self.reason = reason


class ForbiddenError(SessionServiceError):
    """The caller is known, and the token lacks the ``scope`` that the call needs."""

    code = ErrorCode.FORBIDDEN

    def __init__(self, scope: str) -> None:
        super().__init__(f"The token lacks the scope {scope}")
        self.scope = scope


class OriginNotAllowedError(SessionServiceError):
    code = ErrorCode.ORIGIN_NOT_ALLOWED

    def __init__(self) -> None:
        super().__init__("This origin may not open a connection")


# --- sessions ------------------------------------------------------------------------------------------------


class SessionNotFoundError(SessionServiceError):
    """No such session, or somebody else's: the caller cannot tell which."""

    code = ErrorCode.SESSION_NOT_FOUND

    def __init__(self) -> None:
        super().__init__("Session not found")


class SessionExpiredError(SessionServiceError):
    code = ErrorCode.SESSION_EXPIRED

    def __init__(self) -> None:
        super().__init__("The session has expired")


class SessionNotReadyError(SessionServiceError):
    code = ErrorCode.SESSION_NOT_READY

    def __init__(self, status: str) -> None:
        super().__init__(f"The session is not ready: {status}")
        self.status = status


class SessionRequiredError(SessionServiceError):
    code = ErrorCode.SESSION_REQUIRED

    def __init__(self, count: int) -> None:
        super().__init__(f"sessionId: is required, since the caller has {count} sessions")
        self.count = count


class SessionLimitReachedError(SessionServiceError):
    code = ErrorCode.SESSION_LIMIT_REACHED

    def __init__(self, limit: int) -> None:
        super().__init__(f"The user already has {limit} sessions, all of them connected")
        self.limit = limit


class DeviceMismatchError(SessionServiceError):
    code = ErrorCode.DEVICE_MISMATCH

    def __init__(self) -> None:
        super().__init__("deviceId: the session belongs to another device")


class ConnectionReplacedError(SessionServiceError):
    """A later attempt of the same client id is connected already: this one is the loser, wherever it landed."""

    code = ErrorCode.CONNECTION_REPLACED

    def __init__(self) -> None:
        super().__init__("A newer connection of this client has taken over")


# --- named sessions ------------------------------------------------------------------------------------------


class NamedSessionError(SessionServiceError):
    """Root of what the rules of named sessions refuse. Answers under ``/api/v1/sessions`` carry no code."""


class NamedSessionNotFoundError(NamedSessionError):
    """The user has no session of that title."""

    def __init__(self) -> None:
        super().__init__("Session not found")


class ActiveSessionNotFoundError(NamedSessionError):
    def __init__(self) -> None:
        super().__init__("No active session found for user")


class ActiveSessionDeletionError(NamedSessionError):
    def __init__(self) -> None:
        super().__init__("Cannot delete active session")


class DuplicateSessionTitleError(NamedSessionError):
    def __init__(self) -> None:
        super().__init__("Session with same title already exists")


class InputProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong with what a caller sent. ``loc``: where, from ``body`` or ``path`` inwards."""

    type: str
    loc: tuple[str | int, ...]
    msg: str
    input: Any


class InvalidInputError(NamedSessionError):
    """A body or a path cannot be taken as it is. ``problems``: at least one."""

    def __init__(self, *problems: InputProblem) -> None:
        super().__init__("; ".join(problem.msg for problem in problems))
        self.problems = problems


# --- sandbox sessions ----------------------------------------------------------------------------------------


class ClaimLostError(SessionServiceError):
    """Somebody else has claimed the work since, or it was ended or deleted."""

    code = ErrorCode.CLAIM_LOST

    def __init__(self) -> None:
        super().__init__("The session is not, or no longer, claimed by this claim")


# --- simulators and orders -----------------------------------------------------------------------------------


class SimulatorNotFoundError(SessionServiceError):
    code = ErrorCode.SIMULATOR_NOT_FOUND

    def __init__(self) -> None:
        super().__init__("Simulator not found")


class SimulatorNotRunningError(SessionServiceError):
    code = ErrorCode.SIMULATOR_NOT_RUNNING

    def __init__(self, status: str) -> None:
        super().__init__(f"The session has no running simulator (status {status})")
        self.status = status


class SimulatorLimitReachedError(SessionServiceError):
    code = ErrorCode.SIMULATOR_LIMIT_REACHED

    def __init__(self, limit: int) -> None:
        super().__init__(f"The user already has {limit} simulators")
        self.limit = limit


class OrderNotFoundError(SessionServiceError):
    code = ErrorCode.ORDER_NOT_FOUND

    def __init__(self) -> None:
        super().__init__("Order not found")


class OrderNotCancelableError(SessionServiceError):
    code = ErrorCode.ORDER_NOT_CANCELABLE


class RequestIdReusedError(SessionServiceError):
    code = ErrorCode.REQUEST_ID_REUSED

    def __init__(self) -> None:
        super().__init__("requestId: was used before with another content")


# --- what is away right now ----------------------------------------------------------------------------------


class UnavailableError(SessionServiceError):
    """Something that the request needs is away. ``retry_after_s`` is a hint for the caller, whole seconds ≥ 1."""

    code = ErrorCode.SERVICE_UNAVAILABLE

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL cannot be reached, or did not answer within its limit. A write may or may not have happened."""

    def __init__(self) -> None:
        super().__init__("The database is not available")


class NamedSessionsNotInOrderError(UnavailableError):
    """``public.sessions`` came from another service with rows that break the rules: somebody has to see to them."""

    def __init__(self) -> None:
        super().__init__("Named sessions are not served before their table is in order", retry_after_s=30)


class AuthServiceUnavailableError(UnavailableError):
    """The authentication service cannot be asked: nobody is let in on a guess."""

    def __init__(self, *, retry_after_s: int = 1) -> None:
        super().__init__("The authentication service is not available", retry_after_s=retry_after_s)


class ExchangeUnavailableError(UnavailableError):
    """The simulator cannot be reached, or did not answer within its deadline."""

    def __init__(self) -> None:
        super().__init__("The simulator is not available")


class BackendUnavailableError(UnavailableError):
    """The place where simulators run (Kubernetes, the runner) cannot be reached, or asks for patience."""

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__("The simulator backend is not available", retry_after_s=retry_after_s)
        self.detail = detail


class BackendRefusedError(BackendUnavailableError):
    """The place where simulators run refuses, and will again until somebody changes something there or here.

    ``reason``: its own word for why, in one word.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class CircuitOpenError(UnavailableError):
    """A breaker is open: the call was not made."""

    def __init__(self, service: str, *, retry_after_s: int) -> None:
        super().__init__(f"The {service} service is not available", retry_after_s=retry_after_s)
        self.service = service


class OverloadedError(UnavailableError):
    code = ErrorCode.OVERLOADED

    def __init__(self, *, retry_after_s: int = 1) -> None:
        super().__init__("This pod admits no more connections right now", retry_after_s=retry_after_s)


class PodTerminatingError(UnavailableError):
    code = ErrorCode.POD_TERMINATING

    def __init__(self) -> None:
        super().__init__("This pod is terminating", retry_after_s=1)


# --- gRPC facts that a caller acts upon ------------------------------------------------------------------------


class ExchangeStateLostError(SessionServiceError):
    """A simulator that was started answers NOT_FOUND: it lost the session's state."""

    def __init__(self) -> None:
        super().__init__("The simulator does not know the session")


class FencedError(SessionServiceError):
    """A simulator has seen a higher owner epoch: this pod no longer owns the session (docs/simulator.md)."""

    def __init__(self, highest_epoch: int) -> None:
        super().__init__("Another pod owns the session")
        self.highest_epoch = highest_epoch


# --- answers of the Kubernetes API that a caller acts upon -----------------------------------------------------


class KubernetesConflictError(SessionServiceError):
    """409. ``reason``: AlreadyExists (the name is taken) or Conflict (a precondition does not hold)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__("The object is not in the state that the change needs")
        self.reason = reason
        self.detail = detail


class KubernetesExpiredError(SessionServiceError):
    """410: a resource version or a list's continuation is too old; list anew."""

    def __init__(self, detail: str) -> None:
        super().__init__("The version is too old")
        self.detail = detail


class SchemaError(SessionServiceError):
    """The database's schema is not one that this release can work with."""


class BackupError(SessionServiceError):
    """A backup could not be taken, or not be restored; the message is one line for the operator."""
