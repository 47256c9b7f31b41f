"""The secret between pods and one simulator: derived, so that any pod can make it and nobody stores it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable

from session_service.errors import DatabaseUnavailableError


class SimulatorTokens:
    """HMAC-SHA256 of the simulator's id under this database's own key, as 64 hexadecimal digits.

    ``load_key`` is asked once; until it has answered there are no tokens.
    """

    def __init__(self, load_key: Callable[[], Awaitable[str]]) -> None:
        self._load_key = load_key
        self._key: bytes | None = None

    async def load(self) -> None:
        """Fetch the key if it is not there yet. Raises what ``load_key`` raises."""
        if self._key is None:
            self._key = (await self._load_key()).encode()

    def token(self, simulator_id: str) -> str:
        """Raises DatabaseUnavailableError before ``load`` has succeeded."""
        if self._key is None:
            raise DatabaseUnavailableError
        return hmac.new(self._key, simulator_id.encode(), hashlib.sha256).hexdigest()
