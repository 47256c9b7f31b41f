"""The user's token: where it comes from, and when it has to be renewed. It is shown by nothing here."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable

TokenGetter = Callable[[], Awaitable[str]]

REFRESH_BEFORE_S = 60.0
REFRESH_SHARE = 0.2
RETRY_SHARE = 0.5  # of the time that is left, where a refresh brought no later expiry
MIN_REFRESH_INTERVAL_S = 1.0


class TokenSource:
    """A token given as text, or a way to get one. A text cannot be renewed: its expiry ends the connection."""

    __slots__ = ("_token",)

    def __init__(self, token: str | TokenGetter) -> None:
        self._token = token

    @property
    def renewable(self) -> bool:
        return not isinstance(self._token, str)

    async def get(self) -> str:
        """Whatever the getter raises passes through."""
        return self._token if isinstance(self._token, str) else await self._token()

    def __repr__(self) -> str:
        return f"TokenSource(renewable={self.renewable})"


def expiry_s(token: str) -> float | None:
    """``exp`` of a JWT in Unix seconds, None where there is none to read. The signature is not looked at."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    expiry = payload.get("exp") if isinstance(payload, dict) else None
    return float(expiry) if isinstance(expiry, int | float) and not isinstance(expiry, bool) else None


def refresh_in_s(token: str, now_unix_s: float) -> float | None:
    """How long until a token that is new should be renewed: 60 s or a fifth of its time before its end."""
    expiry = expiry_s(token)
    if expiry is None:
        return None
    left_s = max(0.0, expiry - now_unix_s)
    return max(MIN_REFRESH_INTERVAL_S, left_s - min(REFRESH_BEFORE_S, left_s * REFRESH_SHARE))


def refresh_again_in_s(token: str, now_unix_s: float) -> float:
    """The same where a renewal failed, or brought the same token: before the end, and never in a hurry."""
    expiry = expiry_s(token)
    left_s = 0.0 if expiry is None else max(0.0, expiry - now_unix_s)
    return max(MIN_REFRESH_INTERVAL_S, left_s * RETRY_SHARE)
