"""NamedSessionService: the operations of document 004's service layer."""

from __future__ import annotations

from session_service.database.named_sessions import NamedSessionRepository
from session_service.domain.named_session import NamedSession
from session_service.errors import ActiveSessionNotFoundError


class NamedSessionService:
    """Every method may raise DatabaseUnavailableError; titles are checked by the caller."""

    def __init__(self, repository: NamedSessionRepository) -> None:
        self._repository = repository

    async def create_session(self, user_id: int, title: str) -> NamedSession:
        """Make a session, active in the place of the one that was. Raises DuplicateSessionTitleError."""
        active = await self._repository.create(user_id, title)
        assert active.id is not None  # noqa: S101 - what was created has an id
        return NamedSession(active.id, user_id, title, True)

    async def get_sessions(self, user_id: int) -> list[NamedSession]:
        """All sessions of the user, the oldest first."""
        return await self._repository.list_of_user(user_id)

    async def get_active_session_id(self, user_id: int) -> str:
        """The id of the active session. Raises ActiveSessionNotFoundError."""
        active = await self._repository.active(user_id)
        if active.id is None:
            raise ActiveSessionNotFoundError
        return active.id

    async def set_active_session(self, user_id: int, title: str) -> None:
        """Make the session of that title the active one. Raises NamedSessionNotFoundError."""
        await self._repository.activate(user_id, title)

    async def delete_session(self, user_id: int, title: str) -> None:
        """Remove a session that is not active. Raises NamedSessionNotFoundError, ActiveSessionDeletionError."""
        await self._repository.delete(user_id, title)
