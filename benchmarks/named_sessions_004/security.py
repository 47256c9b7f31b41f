"""JWTHandler: the user's id in a token that the authentication service signed."""

from __future__ import annotations

from jose import JWTError, jwt

from benchmarks.named_sessions_004.config import SecurityConfig


class InvalidTokenError(Exception):
    """Not signed by the key, expired, or without a user's id."""


class JWTHandler:
    def __init__(self, config: SecurityConfig) -> None:
        self._config = config

    def user_id(self, token: str) -> int:
        """Raises InvalidTokenError."""
        try:
            claims = jwt.decode(token, self._config.secret_key, algorithms=[self._config.algorithm])
            return int(claims["sub"])
        except (JWTError, KeyError, ValueError) as error:
            raise InvalidTokenError from error
