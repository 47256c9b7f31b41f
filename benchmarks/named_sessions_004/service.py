"""What the endpoints do: the repository, then the commit, then the cache."""

from __future__ import annotations

from sqlalchemy.orm import Session

from benchmarks.named_sessions_004.cache import SessionCacheManager
from benchmarks.named_sessions_004.exceptions import ActiveSessionNotFoundError
from benchmarks.named_sessions_004.repository import SessionRepository
from benchmarks.named_sessions_004.schemas import SessionCreate, SessionRead


class SessionService:
    def __init__(self, repository: SessionRepository, cache: SessionCacheManager) -> None:
        self._repository = repository
        self._cache = cache

    def create_session(self, db: Session, session_data: SessionCreate) -> SessionRead:
        """Create it and make it the active one. Raises DuplicateSessionTitleError, and nothing was changed."""
        self._repository.deactivate_active_session(db, session_data.user_id)
        made = SessionRead.model_validate(self._repository.create_session(db, session_data))
        db.commit()
        self._cache.set(made.user_id, str(made.id))
        return made

    def get_sessions(self, db: Session, user_id: int) -> list[SessionRead]:
        return [SessionRead.model_validate(one) for one in self._repository.get_sessions(db, user_id)]

    def get_active_session_id(self, db: Session, user_id: int) -> str:
        """Raises ActiveSessionNotFoundError."""
        cached = self._cache.get(user_id)
        if cached is not None:
            return cached
        active = self._repository.get_active_session(db, user_id)
        if active is None:
            raise ActiveSessionNotFoundError
        self._cache.set(user_id, str(active.id))
        return str(active.id)

    def set_active_session(self, db: Session, user_id: int, title: str) -> None:
        """Raises SessionNotFoundError."""
        session_id = str(self._repository.set_active_session(db, user_id, title).id)
        db.commit()
        self._cache.set(user_id, session_id)

    def delete_session(self, db: Session, user_id: int, title: str) -> None:
        """Raises SessionNotFoundError, ActiveSessionDeletionError."""
        self._repository.delete_session(db, user_id, title)
        db.commit()
