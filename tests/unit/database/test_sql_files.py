"""The SQL that ships: every name that the code asks for is there, and none is there for nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import session_service
from session_service.database.sql_files import Migration, load_migrations, load_queries, load_schema

PACKAGE = Path(session_service.__file__).parent
NOUNS = (
    "sessions|named_sessions|named_session_order|simulators|spares|sockets|pods|ownership|orphans|sweeper|teardowns"
    "|installation|start_queue|sandbox_sessions|sandbox_changes|sandbox_upkeep|backups"
)
USED = re.compile(rf'"((?:{NOUNS})\.[a-z_]+)"')


def names_in_the_code() -> set[str]:
    return {name for file in PACKAGE.rglob("*.py") for name in USED.findall(file.read_text(encoding="utf-8"))}


def test_the_queries_are_those_that_the_code_uses() -> None:
    assert set(load_queries()) == names_in_the_code()


def test_a_query_is_one_statement_and_keeps_its_comments() -> None:
    queries = load_queries()
    for name in queries:
        statement = re.sub(r"--[^\n]*", "", queries[name])
        assert statement.strip().endswith(";"), name
        assert statement.count(";") == 1, name
    assert queries["sessions.keepalive"].startswith("-- Never revives")


def test_a_name_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        load_queries()["sessions.no_such_query"]


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    migrations = load_migrations()
    assert [migration.version for migration in migrations] == list(range(1, len(migrations) + 1))
    assert {migration.phase for migration in migrations} <= {"pre", "post"}


def test_a_checksum_tells_contents_apart() -> None:
    first = Migration(1, "pre", "name", "SELECT 1")
    assert first.checksum == Migration(2, "post", "other", "SELECT 1").checksum
    assert first.checksum != Migration(1, "pre", "name", "SELECT 2").checksum


def test_the_schema_has_the_documented_tables() -> None:
    schema = load_schema()
    for table in ("session.active_sessions", "session.session_metadata", "simulator.instances"):
        assert f"CREATE TABLE {table} (" in schema
