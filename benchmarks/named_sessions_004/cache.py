"""SessionCacheManager: ids of active sessions in Redis. Without Redis there is no cache, and no error."""

from __future__ import annotations

import redis

from benchmarks.named_sessions_004.config import RedisConfig

CONNECT_TIMEOUT_S = 5.0


class SessionCacheManager:
    def __init__(self, config: RedisConfig) -> None:
        self._ttl_s = config.ttl_s
        self._redis = redis.Redis(
            host=config.host,
            port=config.port,
            db=config.db,
            password=config.password or None,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            decode_responses=True,
        )

    def connect(self) -> None:
        try:
            self._redis.ping()
        except redis.RedisError:
            return  # the service starts without its cache

    def close(self) -> None:
        self._redis.close()

    def get(self, user_id: int) -> str | None:
        """The id, whose time to live begins anew: one round trip."""
        try:
            found = self._redis.getex(_key(user_id), ex=self._ttl_s)
        except redis.RedisError:
            return None
        return str(found) if found else None

    def set(self, user_id: int, session_id: str) -> None:
        try:
            self._redis.set(_key(user_id), session_id, ex=self._ttl_s)
        except redis.RedisError:
            return  # the next lookup asks the database


def _key(user_id: int) -> str:
    return f"session:active:user:{user_id}"
