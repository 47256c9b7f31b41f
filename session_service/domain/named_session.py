"""Named sessions (document 004): whose they are, and what their titles may be. Pure."""

from __future__ import annotations

import re

import msgspec

MAX_TITLE_LENGTH = 1000  # characters, as Python and PostgreSQL count them: code points
MAX_USER_ID = 2**31 - 1  # of the column, an INTEGER

# One spelling for each user: "07" and "+7" are other subjects to the live sessions, and must not be user 7 here.
_subject = re.compile(r"[1-9][0-9]{0,9}")


class NamedSession(msgspec.Struct, frozen=True):
    """One row of ``public.sessions``, as answers show it. ``id`` is a UUID in its canonical text."""

    id: str
    user_id: int
    title: str
    active: bool


class ActiveSession(msgspec.Struct, frozen=True):
    """Which session of a user is active, None where none is, as of an epoch: a higher one is newer."""

    id: str | None
    epoch: int


def user_id_of(subject: str) -> int | None:
    """A token's subject as the number of a user, 1 to 2³¹−1; None where it is none."""
    if _subject.fullmatch(subject) is None:
        return None
    user_id = int(subject)
    return user_id if user_id <= MAX_USER_ID else None


def title_fault(title: str) -> tuple[str, str] | None:
    """What keeps ``title`` from being one, as a type of error and in words; None where nothing does.

    PostgreSQL's text has no NUL, and UTF-8 no lone surrogates.
    """
    if not title:
        return "string_too_short", "String should have at least 1 character"
    if len(title) > MAX_TITLE_LENGTH:
        return "string_too_long", f"String should have at most {MAX_TITLE_LENGTH} characters"
    if "\0" in title:
        return "value_error", "Value error, a title cannot contain NUL"
    if any("\ud800" <= character <= "\udfff" for character in title):
        return "string_unicode", "Input should be a valid string, unable to parse raw data as a unicode string"
    return None
