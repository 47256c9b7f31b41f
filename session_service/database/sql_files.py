"""The SQL that ships with the package: migrations, and queries by name.

A file of ``sql/queries`` holds statements, each headed by ``-- name: noun.verb``; the comment lines that follow say
why it is as it is. They are sent to PostgreSQL as they stand.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec

_MIGRATION_NAME = re.compile(r"^(\d{4})_(pre|post)_([a-z0-9_]+)\.sql$")
_QUERY_NAME = re.compile(r"^-- name: ([a-z_]+\.[a-z_]+)$", re.MULTILINE)


class Migration(msgspec.Struct, frozen=True):
    """One numbered file. ``pre`` runs before the new release serves, ``post`` after the old one is gone."""

    version: int
    phase: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Queries:
    """Named statements. A name that is not there is a fault of the code: KeyError at start, not at use."""

    def __init__(self, statements: dict[str, str]) -> None:
        self._statements = statements

    def __getitem__(self, name: str) -> str:
        return self._statements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)


def _sql_root() -> Traversable:
    return files("session_service").joinpath("sql")


def load_schema() -> str:
    return _sql_root().joinpath("schema.sql").read_text(encoding="utf-8")


def load_migrations() -> list[Migration]:
    """Every migration, by version. Raises ValueError for a name that breaks the rule, or a number given twice."""
    migrations: dict[int, Migration] = {}
    for file in _sql_root().joinpath("migrations").iterdir():
        match = _MIGRATION_NAME.match(file.name)
        if match is None:
            raise ValueError(f"{file.name} is not named NNNN_pre_name.sql or NNNN_post_name.sql")
        version = int(match[1])
        if version in migrations:
            raise ValueError(f"two migrations have the number {version}")
        migrations[version] = Migration(version, match[2], match[3], file.read_text(encoding="utf-8"))
    return [migrations[version] for version in sorted(migrations)]


def load_queries() -> Queries:
    """Every named statement of ``sql/queries``. Raises ValueError for a name given twice."""
    statements: dict[str, str] = {}
    for file in _sql_root().joinpath("queries").iterdir():
        parts = _QUERY_NAME.split(file.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in statements:
                raise ValueError(f"two statements have the name {name}")
            statements[name] = body.strip()
    return Queries(statements)
