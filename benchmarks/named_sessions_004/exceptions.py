"""What the rules refuse."""

from __future__ import annotations


class SessionNotFoundError(Exception):
    """No session of the user has the title."""


class ActiveSessionNotFoundError(Exception):
    """The user has no active session."""


class ActiveSessionDeletionError(Exception):
    """The active session is not deleted."""


class DuplicateSessionTitleError(Exception):
    """A session of the user has the title already."""
