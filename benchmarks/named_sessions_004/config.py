"""Settings from the environment, by the names of the document; Redis' HOST, PORT and DB have a prefix here."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL


class PostgresConfig(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DB_")

    host: str = "localhost"
    port: int = 5432
    user: str = "postgres"
    password: str = ""
    name: str = "session_db"
    pool_size: int = 10  # as many connections as a pod of ours has

    @property
    def url(self) -> URL:
        return URL.create("postgresql+psycopg2", self.user, self.password, self.host, self.port, self.name)


class SecurityConfig(BaseSettings):
    secret_key: str
    algorithm: str = "HS256"


class RedisConfig(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="REDIS_")

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    password: str = ""
    ttl_s: int = 3600


class Settings:
    def __init__(self) -> None:
        self.postgres = PostgresConfig()
        self.security = SecurityConfig()  # type: ignore[call-arg] # from the environment
        self.redis = RedisConfig()
