"""Bodies, queries and answers of ``/api/v1/sandbox-sessions``: snake_case where they are columns. Pure.

JSON values of the caller's are never decoded: what they say goes to PostgreSQL, and comes back, as text.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from session_service.domain.inbox import InboxStatus
from session_service.domain.sandbox_session import (
    DEFAULT_VISIBILITY_S,
    LONGEST_VISIBILITY_S,
    MAX_DEPTH,
    MAX_WORKER_LENGTH,
    SHORTEST_VISIBILITY_S,
    FieldChanges,
    Position,
    SandboxPage,
    SandboxSession,
)
from session_service.errors import InvalidRequestError
from session_service.wire.fields import PRINTABLE_PATTERN
from session_service.wire.rest import Instant, RequestBody, utc

MAX_BODY_BYTES = 1024 * 1024
LONGEST_WAIT_S = 30.0
DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_EXPONENT = 999  # JSONB writes numbers out, digit by digit

Worker = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_WORKER_LENGTH,
        pattern=PRINTABLE_PATTERN,
        description="Who works on it, for people who look",
    ),
]
VisibilityS = Annotated[
    float,
    Meta(
        ge=SHORTEST_VISIBILITY_S, le=LONGEST_VISIBILITY_S, description="Seconds after which others may claim the work"
    ),
]
WaitS = Annotated[float, Meta(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait for work where there is none")]
WithoutNul = Annotated[str, Meta(pattern=r"^[^\x00]*\Z")]


class SandboxBody(RequestBody, frozen=True, kw_only=True, rename=None):
    """Base of bodies whose fields are columns. Absent and null differ."""


class NewSandboxSession(SandboxBody, frozen=True, kw_only=True):
    """Without ``inbox_status`` it is pending work; null is a session that is no work."""

    messages: Raw | UnsetType = UNSET
    sbx_config: Raw | UnsetType = UNSET
    parent: UUID | None = None
    inbox_status: InboxStatus | None = InboxStatus.PENDING


class ChangedSandboxSession(SandboxBody, frozen=True, kw_only=True):
    """What to set; null is a value. Setting ``inbox_status`` to another one ends a claim."""

    messages: Raw | UnsetType = UNSET
    sbx_config: Raw | UnsetType = UNSET
    parent: UUID | UnsetType | None = UNSET
    inbox_status: InboxStatus | UnsetType | None = UNSET

    def to_change(self) -> FieldChanges:
        """Raises InvalidRequestError."""
        return FieldChanges(
            messages=_to_set("messages", self.messages),
            inbox_status=self.inbox_status,
            sbx_config=_to_set("sbx_config", self.sbx_config),
            parent=str(self.parent) if isinstance(self.parent, UUID) else self.parent,
        )


class NewMessage(RequestBody, frozen=True, kw_only=True):
    message: Raw


class ClaimRequest(RequestBody, frozen=True, kw_only=True):
    worker: Worker
    visibility_seconds: VisibilityS = DEFAULT_VISIBILITY_S
    wait_seconds: WaitS = 0.0


class ExtendRequest(RequestBody, frozen=True, kw_only=True):
    claim: UUID
    visibility_seconds: VisibilityS


class CompleteRequest(RequestBody, frozen=True, kw_only=True):
    """``messages`` replace the session's; absent or null leaves them."""

    claim: UUID
    messages: Raw | UnsetType = UNSET


class FailRequest(RequestBody, frozen=True, kw_only=True):
    """Without ``retry``, or with true, it is tried again after a back-off while it has attempts left."""

    claim: UUID
    error: WithoutNul | None = None
    retry: bool = True


class SandboxSessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A session, as answers show it."""

    id: str
    messages: Raw
    inbox_status: InboxStatus | None
    sbx_config: Raw
    parent: str | None
    created_at: Instant
    updated_at: Instant


class ClaimedSandboxSession(SandboxSessionRow, frozen=True, kw_only=True):
    """A session with the token of who may extend, complete or fail it."""

    claim: str


class SandboxSessionList(msgspec.Struct, frozen=True, kw_only=True):
    """``cursor`` asks for the next page; null: this is the last one."""

    sessions: tuple[SandboxSessionRow, ...]
    cursor: str | None


class SandboxChildren(msgspec.Struct, frozen=True, kw_only=True):
    """``truncated``: there are more than are shown."""

    sessions: tuple[SandboxSessionRow, ...]
    truncated: bool


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    status: InboxStatus | None
    parent: str | None
    limit: int
    after: Position | None


def is_sandbox_session_id(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def json_text(field: str, value: Raw | UnsetType) -> str | None:
    """The JSON of a field; None where it is null or absent. Raises InvalidRequestError."""
    if value is UNSET:
        return None
    text = message_text(field, value)
    return None if text == "null" else text


def message_text(field: str, value: Raw) -> str:
    """The JSON of a field, null included. Raises InvalidRequestError.

    Its syntax was checked when the body was decoded; what JSON may say and JSONB cannot hold, PostgreSQL says.
    """
    raw = bytes(value)
    if _LONG_NUMBER.search(raw) and _LONG_NUMBER.search(_outside_strings(raw)):
        raise InvalidRequestError(field, f"holds a number with an exponent beyond {MAX_EXPONENT}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(field, "is not UTF-8") from None


def list_query(query: Mapping[str, str]) -> ListQuery:
    """``?status=&parent=&limit=&cursor=``. Raises InvalidRequestError."""
    status, parent, cursor = query.get("status"), query.get("parent"), query.get("cursor")
    if status is not None and status not in _STATUSES:
        raise InvalidRequestError("status", f"must be one of {', '.join(_STATUSES)}")
    if parent is not None and not is_sandbox_session_id(parent):
        raise InvalidRequestError("parent", "must be a UUID")
    return ListQuery(
        status=None if status is None else InboxStatus(status),
        parent=parent,
        limit=_number(query, "limit", DEFAULT_LIMIT, MAX_LIMIT),
        after=None if cursor is None else _position(cursor),
    )


def depth_of_query(query: Mapping[str, str]) -> int:
    """``?depth=``, 1 where it is absent. Raises InvalidRequestError."""
    return _number(query, "depth", 1, MAX_DEPTH)


def row(session: SandboxSession) -> SandboxSessionRow:
    return SandboxSessionRow(
        id=session.id,
        messages=_raw(session.messages),
        inbox_status=session.inbox_status,
        sbx_config=_raw(session.sbx_config),
        parent=session.parent,
        created_at=utc(session.created_at),
        updated_at=utc(session.updated_at),
    )


def claimed_row(session: SandboxSession, claim: str) -> ClaimedSandboxSession:
    return ClaimedSandboxSession(**msgspec.structs.asdict(row(session)), claim=claim)


def session_list(page: SandboxPage) -> SandboxSessionList:
    return SandboxSessionList(
        sessions=tuple(row(session) for session in page.sessions),
        cursor=None if page.next is None else _cursor(page.next),
    )


def children(page: SandboxPage) -> SandboxChildren:
    return SandboxChildren(sessions=tuple(row(session) for session in page.sessions), truncated=page.next is not None)


_STATUSES = tuple(status.value for status in InboxStatus)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NUMBER = re.compile(r"[0-9]{1,6}")
# As PostgreSQL writes an instant in UTC, infinity and years before our era included.
_INSTANT = r"[0-9]{4,6}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?\+00(?: BC)?|-?infinity"
_POSITION = re.compile(rf"({_INSTANT}) ([0-9a-f-]{{36}})")
_LONG_NUMBER = re.compile(rb"[0-9][eE][+-]?0*[1-9][0-9]{3}")  # with an exponent beyond MAX_EXPONENT


def _to_set(field: str, value: Raw | UnsetType) -> str | UnsetType | None:
    return UNSET if value is UNSET else json_text(field, value)


def _outside_strings(raw: bytes) -> bytes:
    """Well-formed JSON without its strings, in which anything may look like a number."""
    without_escapes = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    return b'"'.join(without_escapes.split(b'"')[::2])


def _raw(text: str | None) -> Raw:
    return Raw(b"null" if text is None else text.encode())


def _number(query: Mapping[str, str], name: str, default: int, largest: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= largest:
        raise InvalidRequestError(name, f"must be a whole number from 1 to {largest}")
    return int(text)


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(f"{position.created_at} {position.id}".encode()).decode().rstrip("=")


def _position(cursor: str) -> Position:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    named = _POSITION.fullmatch(text)
    if named is None or not is_sandbox_session_id(named[2]):
        raise InvalidRequestError("cursor", "is none of this list")
    return Position(named[1], named[2])
