"""The query of ``GET /ws`` and of an event stream, and ``Last-Event-ID``: who connects, and where it continues."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from session_service.domain.market import MAX_SEQUENCE, Position
from session_service.domain.simulator import MAX_SYMBOLS
from session_service.errors import InvalidRequestError
from session_service.wire.fields import MAX_CLIENT_ID_LENGTH, is_device_id, is_object_id

MAX_ATTEMPT = 2**31 - 1
_MAX_SYMBOL_LENGTH = 32


class ResumeQuery(msgspec.Struct, frozen=True):
    """A checked query. ``device_id`` is None only for event streams; ``symbols`` None means every symbol."""

    device_id: str | None
    session_id: str | None = None
    client_id: str | None = None
    attempt: int = 0
    position: Position | None = None
    symbols: frozenset[str] | None = None


def parse(query: Mapping[str, str], *, device_required: bool) -> ResumeQuery:
    """Check a decoded query string; empty values count as absent. Raises InvalidRequestError naming the field.

    ``epoch`` and ``sequence`` come together or not at all, each an integer from 0 below 2⁵³.
    """
    device_id = query.get("deviceId") or None
    if device_id is None and device_required:
        raise InvalidRequestError("deviceId", "is required")
    if device_id is not None and not is_device_id(device_id):
        raise InvalidRequestError("deviceId", "must be 1 to 255 characters without control characters")
    session_id = query.get("sessionId") or None
    if session_id is not None and not is_object_id(session_id):
        raise InvalidRequestError("sessionId", "must be 1 to 255 characters without control characters")
    client_id = query.get("clientId") or None
    if client_id is not None and (len(client_id) > MAX_CLIENT_ID_LENGTH or not is_object_id(client_id)):
        raise InvalidRequestError("clientId", "must be 1 to 64 characters without control characters")
    epoch = _integer(query, "epoch", MAX_SEQUENCE)
    sequence = _integer(query, "sequence", MAX_SEQUENCE)
    if (epoch is None) != (sequence is None):
        raise InvalidRequestError("epoch" if epoch is None else "sequence", "epoch and sequence come together")
    return ResumeQuery(
        device_id=device_id,
        session_id=session_id,
        client_id=client_id,
        attempt=_integer(query, "attempt", MAX_ATTEMPT) or 0,
        position=None if epoch is None or sequence is None else Position(epoch, sequence),
        symbols=_symbols(query.get("symbols") or ""),
    )


def at(query: ResumeQuery, position: Position) -> ResumeQuery:
    """The same query, continuing from another position."""
    return msgspec.structs.replace(query, position=position)


def last_event_position(last_event_id: str | None) -> Position | None:
    """``epoch:sequence`` of ``Last-Event-ID`` (WHATWG HTML §9.2.3); anything else is no position, so a snapshot."""
    epoch, separator, sequence = (last_event_id or "").strip().partition(":")
    if not separator or not _is_digits(epoch) or not _is_digits(sequence):
        return None
    position = Position(int(epoch), int(sequence))
    return position if position.epoch <= MAX_SEQUENCE and position.sequence <= MAX_SEQUENCE else None


def _integer(query: Mapping[str, str], field: str, largest: int) -> int | None:
    text = query.get(field)
    if not text:
        return None
    if not _is_digits(text) or int(text) > largest:
        raise InvalidRequestError(field, f"must be an integer from 0 to {largest}")
    return int(text)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 16


def _symbols(text: str) -> frozenset[str] | None:
    if not text:
        return None
    symbols = frozenset(symbol.strip() for symbol in text.split(","))
    if len(symbols) > MAX_SYMBOLS or not all(1 <= len(symbol) <= _MAX_SYMBOL_LENGTH for symbol in symbols):
        raise InvalidRequestError("symbols", f"must be at most {MAX_SYMBOLS} symbols, separated by commas")
    return symbols
