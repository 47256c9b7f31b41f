"""How named sessions that another service left are brought in order: which titles they get, and what a report says.

Pure. Which of several active sessions stays active is the database's decision
(``sql/queries/named_session_order.sql``).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from session_service.domain.named_session import MAX_TITLE_LENGTH

UNTITLED = "untitled"
# Stems that agree so far are counted together: then no number is tried twice, however long the titles are. The rest
# leaves room for a suffix of any number of rows.
_SUFFIX_LENGTH = 24


class Disorder(StrEnum):
    """What was wrong with a row. One row may have several."""

    SEVERAL_ACTIVE = "several_active"  # its user had a session that was updated later, and active too
    DUPLICATE_TITLE = "duplicate_title"
    EMPTY_TITLE = "empty_title"
    LONG_TITLE = "long_title"  # more than MAX_TITLE_LENGTH characters
    NULL_ACTIVE = "null_active"
    NULL_CREATED_AT = "null_created_at"
    NULL_UPDATED_AT = "null_updated_at"
    UNREACHABLE_USER = "unreachable_user"  # no token names a user below 1; nothing is changed for it


class Row(msgspec.Struct, frozen=True):
    """What can be wrong in a row of ``public.sessions``. Instants are texts of RFC 3339, or ``infinity``."""

    title: str
    active: bool | None
    created_at: str | None
    updated_at: str | None


class RowReport(msgspec.Struct, frozen=True, rename={"was": "from", "becomes": "to"}):
    """A line of the report: ``was`` and ``becomes`` have the columns that change, and no others."""

    id: str
    user_id: int
    what: tuple[Disorder, ...]
    was: dict[str, str | bool | None]
    becomes: dict[str, str | bool | None]


def titles_in_order(titles: Sequence[str], longest: int = MAX_TITLE_LENGTH) -> list[str]:
    """The titles that one user's sessions get, in the same order; an equal one where a session keeps its own.

    All are different and have 1 to ``longest`` characters (code points). ``titles``: all of the user's, those first
    that have the first right to theirs. One that is good stays where it comes first; any other becomes ``title (2)``,
    ``title (3)``, …, cut to make room, whichever is free. ``longest``: more than 24.
    """
    taken: set[str] = set()
    placed: list[str | None] = []
    for title in titles:
        stays = 1 <= len(title) <= longest and title not in taken
        placed.append(title if stays else None)
        if stays:
            taken.add(title)
    numbers: dict[str, int] = {}  # the last one tried, of each stem
    found = []
    for title, kept in zip(titles, placed, strict=True):
        new = kept if kept is not None else _free_title(title or UNTITLED, longest, taken, numbers)
        taken.add(new)
        found.append(new)
    return found


def _free_title(wanted: str, longest: int, taken: set[str], numbers: dict[str, int]) -> str:
    candidate = wanted[:longest]
    if candidate not in taken:
        return candidate
    stem = wanted[: max(longest - _SUFFIX_LENGTH, 0)]
    number = numbers.get(stem, 1)
    while candidate in taken:
        number += 1
        suffix = f" ({number})"
        candidate = wanted[: longest - len(suffix)] + suffix
    numbers[stem] = number
    return candidate


def report_row(session_id: str, user_id: int, was: Row, becomes: Row) -> RowReport:
    """What is said of one row: what was wrong with it, and the columns that change."""
    what = []
    if was.active and not becomes.active:
        what.append(Disorder.SEVERAL_ACTIVE)
    if not was.title:
        what.append(Disorder.EMPTY_TITLE)
    elif len(was.title) > MAX_TITLE_LENGTH:
        what.append(Disorder.LONG_TITLE)
    elif was.title != becomes.title:
        what.append(Disorder.DUPLICATE_TITLE)
    if was.active is None:
        what.append(Disorder.NULL_ACTIVE)
    if was.created_at is None:
        what.append(Disorder.NULL_CREATED_AT)
    if was.updated_at is None:
        what.append(Disorder.NULL_UPDATED_AT)
    if user_id < 1:
        what.append(Disorder.UNREACHABLE_USER)
    before, after = msgspec.structs.asdict(was), msgspec.structs.asdict(becomes)
    changed = [column for column in before if before[column] != after[column]]
    return RowReport(
        session_id,
        user_id,
        tuple(what),
        {column: before[column] for column in changed},
        {column: after[column] for column in changed},
    )
