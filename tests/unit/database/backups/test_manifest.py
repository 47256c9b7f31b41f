"""The last line of a backup, and what differs from it."""

from __future__ import annotations

import msgspec
import pytest

from session_service.database.backups.manifest import (
    MARK,
    Difference,
    Manifest,
    TableContents,
    decode,
    differences,
    encode,
)

MANIFEST = Manifest(
    release="1.2.3",
    taken_at="2026-11-20 19:02:19+00",
    database_id="7ce4dd41-faf3-48e9-8f75-1a9cd80d402e",
    schema_version=12,
    server_major=18,
    dump_major=18,
    roles=("postgres", "Grüße"),
    tables={"public.session": TableContents(3, "-12"), 'public."new\nline"': TableContents(0, "0")},
    archive_bytes=7,
    archive_sha256="0" * 64,
)


def test_it_is_one_line_behind_whatever_comes_before() -> None:
    line = encode(MANIFEST)
    assert line.strip(b"\n").count(b"\n") == 0
    assert decode(b"archive" + line) == MANIFEST
    assert decode(b"archive" + MARK + b"of another backup that was dumped" + line) == MANIFEST
    assert MANIFEST.rows == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"archive",
        encode(MANIFEST)[:-1],
        encode(MANIFEST) + b"more",
        MARK + b"{}\n",
        MARK + b"\xff\n",
        encode(msgspec.structs.replace(MANIFEST, format=2)),
    ],
)
def test_anything_else_is_none(content: bytes) -> None:
    assert decode(content) is None


def test_differences() -> None:
    same, more, other = TableContents(1, "1"), TableContents(2, "1"), TableContents(1, "2")
    expected = {"a": same, "b": same, "c": same, "d": same}
    assert differences(expected, expected) == {}
    assert differences(expected, {"a": same, "b": more, "c": other, "e": same}) == {
        "b": Difference.ROWS,
        "c": Difference.CHECKSUM,
        "d": Difference.MISSING,
        "e": Difference.NOT_IN_BACKUP,
    }
