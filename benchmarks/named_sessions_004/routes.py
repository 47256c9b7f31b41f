"""The endpoints under /api/v1/sessions, with what the document answers to each error."""

# No ``from __future__ import annotations``: FastAPI reads the annotations, which name what session_router was given.

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from benchmarks.named_sessions_004.database import DBManager
from benchmarks.named_sessions_004.exceptions import (
    ActiveSessionDeletionError,
    ActiveSessionNotFoundError,
    DuplicateSessionTitleError,
    SessionNotFoundError,
)
from benchmarks.named_sessions_004.schemas import Detail, NewSession, SessionCreate, SessionRead
from benchmarks.named_sessions_004.security import InvalidTokenError, JWTHandler
from benchmarks.named_sessions_004.service import SessionService


def session_router(service: SessionService, database: DBManager, tokens: JWTHandler) -> APIRouter:
    """Plain functions, as the drivers block: FastAPI runs each in a thread of its pool."""
    router = APIRouter(prefix="/api/v1/sessions")

    def current_user_id(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> int:
        try:
            return tokens.user_id(credentials.credentials)
        except InvalidTokenError as error:
            raise HTTPException(401, "Could not validate credentials", {"WWW-Authenticate": "Bearer"}) from error

    CurrentUserId = Annotated[int, Depends(current_user_id)]  # noqa: N806 - a type
    Db = Annotated[Session, Depends(database.session)]  # noqa: N806 - a type

    @router.get("/")
    def get_sessions(db: Db, user_id: CurrentUserId) -> list[SessionRead]:
        return service.get_sessions(db, user_id)

    @router.get("/active")
    def get_active_session_id(db: Db, user_id: CurrentUserId) -> str:
        try:
            return service.get_active_session_id(db, user_id)
        except ActiveSessionNotFoundError as error:
            raise HTTPException(404, "No active session found") from error

    @router.post("/")
    def create_session(body: NewSession, db: Db, user_id: CurrentUserId) -> SessionRead:
        try:
            return service.create_session(db, SessionCreate(user_id=user_id, title=body.title))
        except DuplicateSessionTitleError as error:
            raise HTTPException(409, f"Session with title '{body.title}' already exists") from error

    @router.post("/active/{title}")
    def set_active_session(title: str, db: Db, user_id: CurrentUserId) -> Detail:
        try:
            service.set_active_session(db, user_id, title)
        except SessionNotFoundError as error:
            raise HTTPException(404, f"Session '{title}' not found") from error
        return Detail(detail=f"'{title}' set as active session for user_id={user_id}")

    @router.delete("/{title}")
    def delete_session(title: str, db: Db, user_id: CurrentUserId) -> Detail:
        try:
            service.delete_session(db, user_id, title)
        except SessionNotFoundError as error:
            raise HTTPException(404, f"Session '{title}' not found") from error
        except ActiveSessionDeletionError as error:
            raise HTTPException(400, "Cannot delete active session") from error
        return Detail(detail="Session deleted successfully")

    return router
