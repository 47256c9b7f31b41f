"""Data access. Nothing is committed here: a request's statements are one transaction, which the service ends."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from benchmarks.named_sessions_004.exceptions import (
    ActiveSessionDeletionError,
    DuplicateSessionTitleError,
    SessionNotFoundError,
)
from benchmarks.named_sessions_004.models import SessionModel
from benchmarks.named_sessions_004.schemas import SessionCreate


class SessionRepository:
    def create_session(self, db: Session, session_data: SessionCreate) -> SessionModel:
        """Raises DuplicateSessionTitleError."""
        if self.get_session_by_title(db, session_data.user_id, session_data.title) is not None:
            raise DuplicateSessionTitleError(session_data.title)
        made = SessionModel(**session_data.model_dump())
        db.add(made)
        db.flush()
        return made

    def get_sessions(self, db: Session, user_id: int) -> Sequence[SessionModel]:
        return db.scalars(select(SessionModel).where(SessionModel.user_id == user_id)).all()

    def get_session_by_title(self, db: Session, user_id: int, title: str) -> SessionModel | None:
        return db.scalars(
            select(SessionModel).where(SessionModel.user_id == user_id, SessionModel.title == title)
        ).first()

    def get_active_session(self, db: Session, user_id: int) -> SessionModel | None:
        return db.scalars(
            select(SessionModel).where(SessionModel.user_id == user_id, SessionModel.active.is_(True))
        ).first()

    def deactivate_active_session(self, db: Session, user_id: int) -> None:
        db.execute(
            update(SessionModel)
            .where(SessionModel.user_id == user_id, SessionModel.active.is_(True))
            .values(active=False)
            .execution_options(synchronize_session=False)
        )

    def set_active_session(self, db: Session, user_id: int, title: str) -> SessionModel:
        """Raises SessionNotFoundError."""
        found = self.get_session_by_title(db, user_id, title)
        if found is None:
            raise SessionNotFoundError(title)
        self.deactivate_active_session(db, user_id)
        db.refresh(found)
        found.active = True
        db.flush()
        return found

    def delete_session(self, db: Session, user_id: int, title: str) -> None:
        """Raises SessionNotFoundError, ActiveSessionDeletionError."""
        found = self.get_session_by_title(db, user_id, title)
        if found is None:
            raise SessionNotFoundError(title)
        if found.active:
            raise ActiveSessionDeletionError(title)
        db.delete(found)
        db.flush()
