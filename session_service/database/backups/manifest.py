"""What a backup says of itself: where it is from, and what every table of it holds. Pure.

It is the last line of the file, behind the archive of pg_dump, so that one file is all there is to keep:
``session-service backup {…}`` with JSON behind the mark. pg_restore reads an archive by the offsets in its table of
contents and never looks behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

FORMAT = 1
MARK = b"\nsession-service backup "
LIMIT_BYTES = 16 * 1024 * 1024  # of the line; some 100,000 tables


class TableContents(msgspec.Struct, frozen=True):
    """How many rows a table has, and the sum over them of 64 bits of the SHA-256 of each one's text: in any order."""

    rows: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``tables`` by their quoted names, those of one snapshot. ``roles``: who is named in the archive.

    ``server_major`` and ``dump_major`` are PostgreSQL's of the server and of pg_dump; ``archive_sha256`` is over the
    first ``archive_bytes`` of the file.
    """

    format: int = FORMAT
    release: str
    taken_at: str
    database_id: str
    schema_version: int
    server_major: int
    dump_major: int
    roles: tuple[str, ...]
    tables: dict[str, TableContents]
    archive_bytes: int
    archive_sha256: str

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())


class Difference(StrEnum):
    """How a table is not what the backup says of it."""

    MISSING = "is missing"
    NOT_IN_BACKUP = "is not in the backup"
    ROWS = "has another number of rows"
    CHECKSUM = "has rows with other contents"


def encode(manifest: Manifest) -> bytes:
    """The line as it stands behind the archive."""
    return MARK + msgspec.json.encode(manifest) + b"\n"


def decode(end_of_file: bytes) -> Manifest | None:
    """The manifest at the end of these bytes; None where there is none that this release can read."""
    _, mark, line = end_of_file.rpartition(MARK)
    if not mark or not line.endswith(b"\n"):
        return None
    try:
        manifest = msgspec.json.decode(line, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return manifest if manifest.format == FORMAT else None


def differences(expected: Mapping[str, TableContents], found: Mapping[str, TableContents]) -> dict[str, Difference]:
    """What is not as expected, by table; empty: all is."""
    differing = {}
    for name in sorted({*expected, *found}):
        if name not in found:
            differing[name] = Difference.MISSING
        elif name not in expected:
            differing[name] = Difference.NOT_IN_BACKUP
        elif found[name].rows != expected[name].rows:
            differing[name] = Difference.ROWS
        elif found[name].checksum != expected[name].checksum:
            differing[name] = Difference.CHECKSUM
    return differing
