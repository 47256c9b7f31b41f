"""DBManager: the engine and one SQLAlchemy session per request."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.named_sessions_004.config import PostgresConfig
from benchmarks.named_sessions_004.models import Base


class DBManager:
    def __init__(self, config: PostgresConfig) -> None:
        # No overflow: connections that are opened and closed under load cost more than the wait for one.
        self._engine = create_engine(config.url, pool_size=config.pool_size, max_overflow=0)
        self._sessions = sessionmaker(self._engine, autoflush=False)

    def create_tables(self) -> None:
        Base.metadata.create_all(self._engine)

    def session(self) -> Iterator[Session]:
        """For ``Depends``. Takes a connection with its first statement, and gives it back at the end."""
        with self._sessions() as session:
            yield session

    def close(self) -> None:
        self._engine.dispose()
