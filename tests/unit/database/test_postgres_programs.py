"""Which of the installed programs is used for a server of a given version."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_service.database.postgres_programs import client_programs, installed_programs
from session_service.errors import ConfigurationError

LATER = 998  # than whatever this machine has


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """First on PATH, with a pg_dump of a version to come."""
    program = tmp_path / "pg_dump"
    program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {LATER}.2 (Debian {LATER}.2-1)'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def test_the_oldest_that_is_new_enough(directory: Path) -> None:
    assert client_programs("pg_dump", LATER).directory == directory
    assert client_programs("pg_dump", 1).major < LATER


def test_all_that_are_too_old_are_named(directory: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client_programs("pg_dump", LATER + 1)
    assert caught.value.variable == "PATH"
    assert caught.value.must_be.startswith(f"one with pg_dump of PostgreSQL {LATER + 1} or newer")
    assert f"{LATER} ({directory})" in (caught.value.was or "")


def test_a_program_that_does_not_say_its_version_is_none(directory: Path) -> None:
    (directory / "pg_dump").write_text("#!/bin/sh\nexit 1\n")
    assert directory not in {programs.directory for programs in installed_programs("pg_dump")}


def test_a_link_is_followed_unless_the_program_goes_by_its_name(directory: Path) -> None:
    """As Debian's /usr/bin/pg_dump, which is a link to a wrapper of another name."""
    wrapper = directory / "wrapper"
    (directory / "pg_dump").rename(wrapper)
    (directory / "pg_dump").symlink_to(wrapper)
    assert client_programs("pg_dump", LATER).directory == directory
