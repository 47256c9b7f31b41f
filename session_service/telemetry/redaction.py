"""Tokens and secrets never reach a log (docs/operations.md#logs). Pure.

Two nets: values under a telling key are replaced whole, and the finished line is searched for whatever looks like a
token, wherever it came from: the event, a value, a nested one, a URL, an exception's text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(
    r"(?:token|authorization|password|passwd|secret|secret_?key|secret_?key_?previous|sec-websocket-protocol|cookie)$",
    re.IGNORECASE,
)
# Characters of a value that has no quotes around it: up to a space, a quote, a bracket or the next parameter.
_VALUE = r"""(?!\[redacted\])(?:[^\s"'\\&#;,<>)}\]]|\\u[0-9a-f]{4})+"""
_TELLING_NAME = r"(?:token|authorization|password|passwd|secret|secret_?key)"

_PATTERN = re.compile(
    "|".join(
        (
            # RFC 6750 credentials, and our WebSocket subprotocol `bearer.<base64url>`.
            rf"(?P<scheme>bearer(?:\.|(?:\s|\+|%20|\\[tnr])+)){_VALUE}",
            # A query parameter or form field: token=, access_token=, also percent-encoded once.
            rf"(?P<parameter>{_TELLING_NAME}(?:=|%3d)['\"]?){_VALUE}",
            # A member of a JSON object or Python dict that stands in a string, quotes escaped or not.
            rf"(?P<member>{_TELLING_NAME}\\*[\"']\s*:\s*\\*[\"'])(?:[^\"'\\]|\\u[0-9a-f]{{4}})+",
            # Compact JWS, whole or cut off: its header is a JSON object in base64url, so it begins with one of these.
            r"(?P<jws>(?-i:eyJ|eyA|eyI|ewo|ewk|ew0)[A-Za-z0-9_=-]{6,}(?:\.[A-Za-z0-9_=-]*)+)",
            # The same once more in base64url: the content of the subprotocol without its prefix.
            r"(?P<wrapped>(?-i:ZXlK|ZXlB|ZXlJ)[A-Za-z0-9_=-]{16,})",
        )
    ),
    re.IGNORECASE,
)
# The pattern is searched for only in a line that holds one of these, since that is slow and most lines hold none.
_WORDS = ("bearer", "token", "authorization", "passw", "secret")
_ENCODED = ("eyJ", "eyA", "eyI", "ewo", "ewk", "ew0", "ZXl")


@functools.lru_cache(maxsize=1024)  # keys are the code's own, a few dozen; a line has ten
def is_secret_key(key: str) -> bool:
    """Whether a value under this key is a secret: ``token``, ``access_token``, ``sessionToken``…"""
    return _SECRET_KEY.search(key) is not None


def redact_text(text: str) -> str:
    """``text`` with everything that looks like a token or a secret replaced by ``[redacted]``."""
    folded = text.lower()
    if not any(word in folded for word in _WORDS) and not any(start in text for start in _ENCODED):
        return text
    return _PATTERN.sub(_replacement, text)


def redact_value(value: Any) -> Any:
    """``value`` with the secrets of nested mappings and sequences replaced by key; other values as they are."""
    if isinstance(value, Mapping):
        return {
            key: REDACTED if isinstance(key, str) and item and is_secret_key(key) else redact_value(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_value(item) for item in value]
    return value


def _replacement(match: re.Match[str]) -> str:
    kept = match["scheme"] or match["parameter"] or match["member"] or ""
    return kept + REDACTED
