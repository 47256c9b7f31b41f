"""The checked types of single fields that clients send, by REST and by WebSocket alike.

Patterns end in ``\\Z``: Python's ``$`` also matches before a final newline. A JSON document never holds a lone
surrogate here (msgspec refuses it), a query string or a path may, so that ``is_device_id`` looks for it too.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from session_service.domain.market import MAX_SEQUENCE
from session_service.domain.simulator import MAX_CASH, MAX_SYMBOLS

MAX_ID_LENGTH = 255
MAX_CLIENT_ID_LENGTH = 64
MAX_REQUEST_ID_LENGTH = 64
MAX_QUANTITY = 2**31 - 1

SYMBOL_PATTERN = r"^[A-Z][A-Z0-9.\-]{0,11}\Z"
PRINTABLE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+\Z"

DeviceId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_ID_LENGTH,
        pattern=PRINTABLE_PATTERN,
        description="The client's own stable name of the device",
    ),
]
ClientId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_CLIENT_ID_LENGTH,
        pattern=PRINTABLE_PATTERN,
        description="One id for the life of a tab, as in GET /ws; without it the attempt alone counts",
    ),
]
RequestId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_REQUEST_ID_LENGTH,
        pattern=PRINTABLE_PATTERN,
        description="Unique per session; repeating it with the same content gives the same answer",
    ),
]
Symbol = Annotated[str, Meta(pattern=SYMBOL_PATTERN)]
Symbols = Annotated[tuple[Symbol, ...], Meta(min_length=1, max_length=MAX_SYMBOLS, description="Each symbol once")]
Cash = Annotated[float, Meta(gt=0, le=MAX_CASH)]
# A number with an integral value, 10 and 10.0 alike: JSON knows no integers (RFC 8259 §6).
Quantity = Annotated[float, Meta(ge=1, le=MAX_QUANTITY, multiple_of=1)]
Price = Annotated[float, Meta(gt=0, le=MAX_CASH)]
SequenceNumber = Annotated[int, Meta(ge=0, le=MAX_SEQUENCE)]
Attempt = Annotated[
    int, Meta(ge=0, le=MAX_QUANTITY, description="The client's count of connections; a larger one is newer")
]

# msgspec's words for what a person would say otherwise. Of the numbers here only a quantity is a float from 1 on.
_IN_WORDS = {
    "Expected `float` that's a multiple of 1.0": "Expected a whole number",
    "Expected `float` >= 1.0": f"Expected a whole number from 1 to {MAX_QUANTITY}",
    f"Expected `float` <= {float(MAX_QUANTITY)}": f"Expected a whole number from 1 to {MAX_QUANTITY}",
    f"Expected `str` matching regex {PRINTABLE_PATTERN!r}": "Expected text without control characters",
    f"Expected `str` matching regex {SYMBOL_PATTERN!r}": "Expected 1 to 12 of A-Z 0-9 . - and a letter first",
}

_printable = re.compile(PRINTABLE_PATTERN)


def in_words(problem: str) -> str:
    """The decoder's sentence on a wrong value, as the reader of an answer should see it."""
    return _IN_WORDS.get(problem, problem)


def is_device_id(text: str) -> bool:
    """Whether ``text`` may be a device id: 1–255 characters, no control characters, no lone surrogates."""
    return len(text) <= MAX_ID_LENGTH and _printable.match(text) is not None


def is_object_id(text: str) -> bool:
    """Whether ``text`` may be the id of a session, a simulator or an order at all; PostgreSQL refuses NUL in text."""
    return is_device_id(text)
