"""What follows a lost socket or a refused upgrade (docs/protocol.md#close-codes). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

CLOSED_OK = 1000
TOKEN_INVALID = 4501
SESSION_ENDED = 4503
REPLACED = 4504
PROTOCOL_ERROR = 4506
_FINAL_CODES = range(4500, 5000)

_CODES = {
    TOKEN_INVALID: "AUTHENTICATION_FAILED",
    SESSION_ENDED: "SESSION_ENDED",
    REPLACED: "CONNECTION_REPLACED",
}
_WORDS = {
    TOKEN_INVALID: "the token is refused, or has expired",
    SESSION_ENDED: "the session has ended, or is not there",
    REPLACED: "a newer connection of this client id, or more connections of the session than are allowed",
    PROTOCOL_ERROR: "the service refused the connection",
}


@dataclass(frozen=True, slots=True)
class Retry:
    """Connect again, not before ``after_s`` where the service said so; ``fresh_token``: only with a new token."""

    after_s: float | None = None
    fresh_token: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """The refusal has no reason in it: REST knows it."""


@dataclass(frozen=True, slots=True)
class Final:
    """Never again: the code and words for ConnectionEndedError."""

    code: str
    reason: str


class TokenState(Enum):
    """What can be done about a refused token."""

    FIXED = auto()  # it was given as text: another try would send the same one
    RENEWABLE = auto()  # a new one can be asked for
    RENEWED = auto()  # a new one was asked for, and is the one that was refused


def after_close(
    close_code: int | None, token: TokenState, *, superseded: bool = False, code: str | None = None, reason: str = ""
) -> Retry | Final:
    """A socket that the client did not leave is closed.

    ``superseded``: the client itself made a later attempt, so 4504 speaks of that one, even if it came to nothing.
    ``code`` and ``reason`` are what the service said before it closed, where it did; ``SESSION_ENDED`` counts
    whatever the close code. 1000 without having been asked for is a loss: the service says it to a client that has
    moved, and this one has not.
    """
    if code == "SESSION_ENDED":
        return Final(code, reason or _WORDS[SESSION_ENDED])
    if close_code == REPLACED and superseded:
        return Retry()
    if close_code is None or close_code not in _FINAL_CODES:
        return Retry()
    if close_code == TOKEN_INVALID and token is TokenState.RENEWABLE:
        return Retry(fresh_token=True)
    return Final(
        code or _CODES.get(close_code, "PROTOCOL_ERROR"), reason or _WORDS.get(close_code, f"close code {close_code}")
    )


def after_refusal(status: int, retry_after_s: float | None, token: TokenState) -> Retry | Ask | Final:
    """An upgrade was answered with another status than 101."""
    if status == 401:
        if token is TokenState.RENEWABLE:
            return Retry(fresh_token=True)
        return Final("AUTHENTICATION_FAILED", _WORDS[TOKEN_INVALID])
    if status >= 500 or status in {408, 425, 429}:
        return Retry(after_s=retry_after_s)
    return Ask()


def after_answer(code: str, message: str, status: int | None, retry_after_s: float | None) -> Retry | Final:
    """REST was asked why, and refused as well."""
    if status is not None and (status >= 500 or status in {408, 425, 429}):
        return Retry(after_s=retry_after_s)
    return Final(code, message)
