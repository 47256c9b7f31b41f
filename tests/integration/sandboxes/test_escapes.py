"""What a sandbox may try: each attempt is refused, or does no harm, and nobody else's row is seen."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest

from session_service.database.sandbox_roles import role_of
from tests.support.cluster_template import SERVICE_ROLE
from tests.support.sandboxes import Sandboxes, put
from tests.support.sql import Sql
from tests.support.waiting import eventually

CANARY = "somebody-elses-secret"
OUTSIDE = """
    INSERT INTO session.active_sessions (session_id, user_id, device_id, status, expires_at)
    VALUES ('{0}', '{0}', '{0}', 'ACTIVE', now() + interval '1 hour');
    INSERT INTO public.sessions (user_id, title) VALUES (1, '{0}');
    UPDATE session.installation SET simulator_key = '{0}';
"""
STATE = """
    SELECT (SELECT string_agg(t::text, '|' ORDER BY t::text) FROM session.active_sessions t),
           (SELECT string_agg(t::text, '|' ORDER BY t::text) FROM public.sessions t),
           (SELECT string_agg(t::text, '|' ORDER BY t::text) FROM session.installation t),
           (SELECT string_agg(t::text, '|' ORDER BY t::text) FROM public.session t WHERE t.owner = 'sandbox_other'),
           (SELECT string_agg(c.oid::text, '|' ORDER BY c.oid) FROM pg_class c WHERE c.relnamespace <> ALL
                (ARRAY['pg_catalog', 'pg_toast', 'information_schema']::regnamespace[])),
           (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_roles),
           (SELECT count(*) FROM pg_largeobject_metadata)
"""


class Attempt(msgspec.Struct, frozen=True):
    """Statements made one after the other. ``refused``: an error ends them. Otherwise they may succeed, and must not
    show or change anything of others. {foreign}: the id of another's row; {missing}: one that nobody has.
    """

    what: str
    statements: tuple[str, ...]
    refused: bool = True


def refused(what: str, *statements: str) -> Attempt:
    return Attempt(what, statements)


def harmless(what: str, *statements: str) -> Attempt:
    return Attempt(what, statements, refused=False)


BY_ANY_ROLE = [
    refused("create a table", "CREATE TABLE public.mine (x int)"),
    refused("create a temporary table", "CREATE TEMP TABLE mine (x int)"),
    refused("create a temporary view", "CREATE TEMP VIEW mine AS SELECT * FROM session"),
    refused("create a schema", "CREATE SCHEMA mine"),
    refused("create a function", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    refused(
        "create a leakproof function",
        "CREATE FUNCTION public.f(text) RETURNS bool LEAKPROOF LANGUAGE sql AS 'SELECT true'",
    ),
    refused("create an operator", "CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)"),
    refused("create an extension", "CREATE EXTENSION dblink"),
    refused("create a trusted extension", "CREATE EXTENSION hstore"),
    refused("create a language", "CREATE LANGUAGE plpython3u"),
    refused("create a role", "CREATE ROLE mine SUPERUSER"),
    refused("create a database", "CREATE DATABASE mine"),
    refused(
        "create an event trigger",
        "CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION session_check_parent()",
    ),
    refused(
        "create a trigger",
        "CREATE TRIGGER t BEFORE INSERT ON session FOR EACH ROW EXECUTE FUNCTION update_session_updated_at()",
    ),
    refused("create an index", "CREATE INDEX ON session ((messages::text))"),
    refused("create a policy", "CREATE POLICY mine ON session USING (true)"),
    refused("turn row-level security off", "ALTER TABLE session DISABLE ROW LEVEL SECURITY"),
    refused("alter the table", "ALTER TABLE session ADD COLUMN x int"),
    refused("drop the trigger", "DROP TRIGGER update_session_updated_at ON session"),
    refused("disable the triggers", "ALTER TABLE session DISABLE TRIGGER ALL"),
    refused("drop the table", "DROP TABLE session"),
    refused("truncate", "TRUNCATE session"),
    refused("a rule", "CREATE RULE r AS ON SELECT TO session DO INSTEAD SELECT 1"),
    refused(
        "replace a claim function",
        "CREATE OR REPLACE FUNCTION session_claim(text, double precision) RETURNS SETOF session"
        " LANGUAGE sql AS 'SELECT NULL'",
    ),
    refused("read a program's output", "COPY session (id) FROM PROGRAM 'id'"),
    refused("write to a program", "COPY (SELECT 1) TO PROGRAM 'cat'"),
    refused("read a file by COPY", "COPY session (messages) FROM '/etc/passwd'"),
    refused("write a file by COPY", "COPY (SELECT 1) TO '/tmp/out'"),
    refused("read a file", "SELECT pg_read_file('/etc/passwd')"),
    refused("read a file's bytes", "SELECT pg_read_binary_file('PG_VERSION')"),
    refused("list a directory", "SELECT * FROM pg_ls_dir('.')"),
    refused("look at a file", "SELECT * FROM pg_stat_file('PG_VERSION')"),
    refused("import a large object", "SELECT lo_import('/etc/passwd')"),
    refused("make a large object", "SELECT lo_create(0)"),
    refused("make a large object of bytes", "SELECT lo_from_bytea(0, '\\x00')"),
    refused("export a large object", "SELECT lo_export(1, '/tmp/out')"),
    refused("become the superuser", "SET ROLE postgres"),
    refused("become the service", f"SET ROLE {SERVICE_ROLE}"),
    refused("become another sandbox", "SET ROLE sandbox_other"),
    refused("be another session", "SET SESSION AUTHORIZATION postgres"),
    refused("grant itself a role", "GRANT pg_read_all_data TO CURRENT_USER"),
    refused("make itself superuser", "ALTER ROLE CURRENT_USER SUPERUSER"),
    refused("pass row-level security by an attribute", "ALTER ROLE CURRENT_USER BYPASSRLS"),
    refused("raise its connection limit", "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1"),
    refused("no triggers", "SET session_replication_role = replica"),
    refused("raise its limit for files", "SET temp_file_limit = -1"),
    refused("change the server", "ALTER SYSTEM SET log_statement = 'all'"),
    refused("reload", "SELECT pg_reload_conf()"),
    refused("live sessions", "SELECT * FROM session.active_sessions"),
    refused("write live sessions", "DELETE FROM session.active_sessions"),
    refused("the installation's key", "SELECT simulator_key FROM session.installation"),
    refused("simulators", "SELECT * FROM simulator.instances"),
    refused("named sessions", "SELECT * FROM public.sessions"),
    refused("write named sessions", "INSERT INTO public.sessions (user_id, title) VALUES (1, 'x')"),
    refused("the ledger", "SELECT * FROM public.session_service_migrations"),
    refused("functions of the service", "SELECT session.lock_user('alice')"),
    refused("delete sessions by a function", "SELECT session.cleanup_expired_sessions()"),
    refused("functions of the sandboxes' own schema", "SELECT sandbox.guard()"),
    refused("become one who sees every row", "SELECT sandbox.sees_every_row()"),
    refused("the passwords' verifiers", "SELECT * FROM sandbox.roles"),
    refused("the server's passwords", "SELECT * FROM pg_authid"),
    refused("the service's views", "SELECT * FROM sandbox.slow_queries"),
    refused("the service's lock of a user", "SELECT pg_advisory_lock(hashtextextended('session.user:alice', 0))"),
    refused(
        "the service's lock, shared",
        "SELECT pg_advisory_xact_lock_shared(hashtextextended('session.drain', 0))",
    ),
    refused("the migrations' lock", "SELECT pg_try_advisory_lock(1582633077)"),
    refused("two numbers for a lock", "SELECT pg_try_advisory_xact_lock(1, 2)"),
    refused(
        "end another's connection",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    ),
    refused(
        "cancel another's statement",
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    ),
    refused("fill the log of changes", "SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000))"),
    refused("a replication slot", "SELECT pg_create_physical_replication_slot('mine')"),
    refused("reset statistics", "SELECT pg_stat_reset()"),
    refused("lock another table", "BEGIN", "LOCK TABLE session.active_sessions IN ACCESS EXCLUSIVE MODE"),
    refused("write claims by plain SQL", "UPDATE session SET claim = gen_random_uuid(), claimed_until = now()"),
    refused("write the owner", "UPDATE session SET owner = 'sandbox_other'"),
    refused("insert for another", "INSERT INTO session (owner) VALUES ('sandbox_other')"),
    refused("write its own attempts", "UPDATE session SET attempts = -100"),
    refused("more attempts than anybody needs", "INSERT INTO session (max_attempts) VALUES (2000000000)"),
    refused("a huge message", "INSERT INTO session (messages) VALUES (to_jsonb(repeat('x', 2000000)))"),
    refused("a huge configuration", "INSERT INTO session (sbx_config) VALUES (to_jsonb(repeat('x', 2000000)))"),
    refused("an endless claim", "SELECT session_claim('w', 'infinity')"),
    refused("a claim without a worker", "SELECT session_claim('')"),
    refused("a subtree without an end", "SELECT session_children('{missing}', 2000000000)"),
    refused("sleep beyond the timeout", "SET statement_timeout = '50ms'", "SELECT pg_sleep(60)"),
    refused(
        "sleep in a claim",
        "SET statement_timeout = '50ms'",
        "SELECT session_claim('w', pg_sleep(60)::text::float8)",
    ),
    harmless("listen to other channels", "LISTEN session_events", "LISTEN pg_notify", "UNLISTEN *"),
    harmless("names in the catalog", "SELECT relname FROM pg_class", "SELECT proname, prosrc FROM pg_proc"),
    harmless("others' statements", "SELECT query, application_name, client_addr FROM pg_stat_activity"),
    harmless("statistics of values", "SELECT s::text FROM pg_stats s WHERE schemaname <> 'pg_catalog'"),
    harmless("locks", "SELECT l::text FROM pg_locks l"),
    harmless("settings", "SELECT name, setting FROM pg_settings", "SELECT s::text FROM pg_db_role_setting s"),
    harmless("a block of code", "DO $$ BEGIN PERFORM 1; END $$"),
    harmless(
        "a search path of its own",
        "SET search_path = 'pg_temp', 'session'",
        "SELECT * FROM public.session_claim('w')",
    ),
    harmless("a prepared statement", "PREPARE mine AS SELECT * FROM session", "EXECUTE mine", "DEALLOCATE mine"),
]
ROWS_ITSELF = {"a search path of its own", "a prepared statement"}  # rows of this table the shared role may see
BY_ONE_SANDBOX = [
    harmless("all rows", "SELECT * FROM session"),
    harmless("a row by its id", "SELECT * FROM session WHERE id = '{foreign}'"),
    refused("row-level security off", "SET row_security = off", "SELECT * FROM session"),
    harmless("copy out", "SELECT * FROM session ORDER BY messages::text"),
    harmless("rows of the table as one value", "SELECT string_agg(s::text, ',') FROM session s"),
    harmless("a sample", "SELECT * FROM session TABLESAMPLE SYSTEM (100)"),
    harmless("by place", "SELECT * FROM session WHERE ctid = '(0,1)'"),
    harmless("a cast that tells of values", "SELECT * FROM session WHERE (messages ->> 'secret')::int = 1"),
    harmless(
        "an error that tells of values",
        "SELECT * FROM session WHERE 1 / (length(messages::text) - length(messages::text)) = 1",
    ),
    harmless(
        "a division by what is seen",
        "SELECT 1 / (SELECT count(*) FROM session WHERE id = '{foreign}') WHERE false",
    ),
    harmless("explain", "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM session WHERE messages ->> 'secret' LIKE 'some%'"),
    harmless("update all", "UPDATE session SET messages = '[]'"),
    harmless("update by id", "UPDATE session SET messages = '[]' WHERE id = '{foreign}' RETURNING *"),
    harmless(
        "update through a join",
        "UPDATE session SET messages = o.messages FROM session o WHERE o.id = '{foreign}' RETURNING *",
    ),
    refused("delete", "DELETE FROM session"),
    refused("delete by a join", "DELETE FROM session USING session o RETURNING o.*"),
    harmless("delete by the function", "SELECT session_delete('{foreign}')"),
    refused(
        "merge",
        "MERGE INTO session s USING (SELECT '{foreign}'::uuid AS id) n ON s.id = n.id WHEN MATCHED THEN DELETE",
    ),
    harmless(
        "merge an update",
        "MERGE INTO session s USING (SELECT '{foreign}'::uuid AS id) n ON s.id = n.id WHEN MATCHED THEN"
        " UPDATE SET messages = '[]'",
    ),
    refused("an id that is taken", "INSERT INTO session (id) VALUES ('{foreign}')"),
    refused("an id that is free", "INSERT INTO session (id) VALUES ('{missing}')"),
    refused(
        "on conflict",
        "INSERT INTO session (id, messages) VALUES ('{foreign}', '[]') ON CONFLICT (id) DO UPDATE SET"
        " messages = session.messages RETURNING *",
    ),
    refused(
        "on conflict do nothing",
        "INSERT INTO session (id) VALUES ('{foreign}') ON CONFLICT DO NOTHING RETURNING *",
    ),
    refused("a foreign parent", "INSERT INTO session (parent) VALUES ('{foreign}')"),
    refused(
        "a move below a foreign parent",
        "INSERT INTO session DEFAULT VALUES",
        "UPDATE session SET parent = '{foreign}'",
    ),
    refused("an instant of its own", "INSERT INTO session (created_at) VALUES ('-infinity')"),
    refused("lock the table", "BEGIN", "LOCK TABLE session IN ACCESS EXCLUSIVE MODE"),
    refused("lock the table a little", "BEGIN", "LOCK TABLE session IN ROW EXCLUSIVE MODE"),
    harmless("lock all rows", "SELECT * FROM session FOR UPDATE"),
    harmless("claim", "SELECT * FROM session_claim('w')"),
    harmless("children of a foreign row", "SELECT * FROM session_children('{foreign}', 100)"),
    refused("append to a foreign row", "SELECT * FROM session_append_message('{foreign}', '1')"),
    refused("complete foreign work with its claim", "SELECT * FROM session_complete('{foreign}', '{claim}')"),
    refused("extend it", "SELECT * FROM session_extend('{foreign}', '{claim}')"),
    refused("fail it", "SELECT * FROM session_fail('{foreign}', '{claim}')"),
    harmless(
        "a setting of the row's role",
        "SELECT set_config('role', 'none', false)",
        "SELECT * FROM session_claim('w')",
    ),
]


# Why an attempt is refused: privilege, what is not there at all, a limit, a parent or a claim that is not one's own.
# Not a slip in the statement, which would refuse nothing.
REASONS = {"42501", "0A000", "23514", "22023", "57014", "23503", "P0002", "SB001"}


class Outcome(msgspec.Struct):
    tried: int = 0
    escapes: list[str] = []


async def attempt(attacker: Sql, watcher: Sql, made: Attempt, ids: dict[str, str], outcome: Outcome) -> None:
    """Makes one attempt within a transaction of its own, and writes down what should not have happened."""
    outcome.tried += 1
    before = await watcher.fetchrow(STATE)
    seen: list[Any] = []
    error: asyncpg.PostgresError | None = None
    for statement in made.statements:
        for name, value in ids.items():
            statement = statement.replace("{" + name + "}", value)
        try:
            seen += await attacker.fetch(statement)
        except asyncpg.PostgresError as caught:
            error = caught
            break
    if attacker.is_in_transaction():
        await attacker.execute("ROLLBACK")
    await attacker.execute("RESET ALL")
    said = [*map(str, seen), str(error), str(getattr(error, "detail", ""))]
    if made.refused and error is None:
        outcome.escapes.append(f"{made.what}: not refused: {seen[:2]}")
    if error is not None and error.sqlstate not in (REASONS if made.refused else {"22012", "22P02"}):
        outcome.escapes.append(f"{made.what}: for another reason: {error!r}")
    if any(CANARY in line for line in said):
        outcome.escapes.append(f"{made.what}: saw {said}")
    if await watcher.fetchrow(STATE) != before:
        outcome.escapes.append(f"{made.what}: changed what is not its own")


async def foreign_row(sandboxes: Sandboxes, owner: Sql) -> dict[str, str]:
    """Another sandbox's row, claimed by it; and what one would need to name it."""
    await owner.execute(OUTSIDE.format(CANARY))
    other = await sandboxes.own("other")
    await put(other, messages=f'{{"secret": "{CANARY}"}}')
    claimed = await other.fetchrow("SELECT * FROM session_claim($1, 3600)", CANARY)
    await put(other, messages=f'{{"secret": "{CANARY}"}}')
    assert claimed is not None
    return {
        "foreign": str(claimed["id"]),
        "claim": str(claimed["claim"]),
        "missing": "00000000-0000-4000-8000-000000000000",
    }


async def test_the_shared_role_reaches_its_table_and_nothing_else(sandboxes: Sandboxes) -> None:
    owner = await sandboxes.owner()
    ids = await foreign_row(sandboxes, owner)
    attacker = await sandboxes.shared()
    await put(attacker)
    outcome = Outcome()
    for made in BY_ANY_ROLE:
        if made.what in ROWS_ITSELF:
            continue
        await attempt(attacker, owner, made, ids, outcome)
    assert outcome.escapes == []
    assert outcome.tried >= 60


async def test_a_role_of_one_sandbox_sees_its_own_rows_and_nothing_else(sandboxes: Sandboxes) -> None:
    owner = await sandboxes.owner()
    ids = await foreign_row(sandboxes, owner)
    attacker = await sandboxes.own("attacker")
    mine = await put(attacker)
    outcome = Outcome()
    for made in (*BY_ANY_ROLE, *BY_ONE_SANDBOX):
        await attempt(attacker, owner, made, ids, outcome)
    assert outcome.escapes == []
    assert outcome.tried >= 100
    seen = await attacker.fetch("SELECT owner FROM session")
    assert {row["owner"] for row in seen} == {role_of("attacker")}
    assert await owner.fetchval("SELECT count(*) FROM session WHERE id = $1", mine) == 1


async def test_the_suite_can_fail(sandboxes: Sandboxes) -> None:
    owner = await sandboxes.owner()
    ids = await foreign_row(sandboxes, owner)
    outcome = Outcome()
    for made in (
        refused("live sessions", "SELECT * FROM session.active_sessions"),
        harmless("rows", "TABLE session"),
    ):
        await attempt(await sandboxes.service(), owner, made, ids, outcome)
    assert [escape.split(": ")[1][:3] for escape in outcome.escapes] == ["not", "saw", "saw"]


async def test_a_foreign_parent_is_answered_as_a_missing_one(sandboxes: Sandboxes) -> None:
    ids = await foreign_row(sandboxes, await sandboxes.owner())
    attacker = await sandboxes.own("attacker")
    mine = await put(attacker)
    said = []
    for name in ("foreign", "missing"):
        for statement in ("INSERT INTO session (parent) VALUES ($1)", "UPDATE session SET parent = $1"):
            with pytest.raises(asyncpg.ForeignKeyViolationError) as caught:
                await attacker.execute(statement, ids[name])
            error = caught.value
            said.append(
                (error.message, error.constraint_name, error.table_name, str(error.detail).replace(ids[name], "ID"))
            )
    assert len(set(said)) == 1
    # And the text is that of PostgreSQL's own check, which those who see every row meet too.
    owner = await sandboxes.owner()
    await owner.execute("ALTER TABLE session DISABLE TRIGGER session_parent_of_new")
    with pytest.raises(asyncpg.ForeignKeyViolationError) as of_postgres:
        await owner.execute("INSERT INTO session (parent) VALUES ($1)", ids["missing"])
    assert of_postgres.value.message == said[0][0]
    assert str(of_postgres.value.detail).replace(ids["missing"], "ID") == said[0][3]
    assert await attacker.fetchval("SELECT parent FROM session WHERE id = $1", mine) is None


async def test_nothing_else_can_be_called(sandboxes: Sandboxes) -> None:
    """Functions outside of the system's schemas that a sandbox can reach by name."""
    for connection in (await sandboxes.shared(), await sandboxes.own("attacker")):
        rows = await connection.fetch(
            "SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prorettype <> 'trigger'::regtype"
            " AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1"
        )
        assert [row["proname"] for row in rows] == [
            "session_append_message",
            "session_children",
            "session_claim",
            "session_complete",
            "session_delete",
            "session_extend",
            "session_fail",
        ]
        tables = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND c.relkind NOT IN ('i', 't', 'c')"
            " AND has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
        )
        assert [row["name"] for row in tables] == ["session"]


async def test_an_advisory_lock_of_a_sandbox_would_stop_the_service(sandboxes: Sandboxes) -> None:
    """What taking these functions from everybody is for."""
    owner, service, attacker = await sandboxes.owner(), await sandboxes.service(), await sandboxes.shared()
    lock = "SELECT pg_advisory_lock(hashtextextended('session.user:alice', 0))"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await attacker.execute(lock)
    await service.execute("SELECT session.lock_user('alice')")
    await owner.execute("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC")
    await attacker.execute(lock)
    await service.execute("SET lock_timeout = '50ms'")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await service.execute("SELECT session.lock_user('alice')")


async def test_a_sandbox_that_locks_its_table_holds_up_no_session(sandboxes: Sandboxes) -> None:
    attacker, service = await sandboxes.shared(), await sandboxes.service()
    async with attacker.transaction():
        await attacker.execute("LOCK TABLE session IN ACCESS EXCLUSIVE MODE")
        await service.execute("SET lock_timeout = '50ms'")
        opened = await service.fetchval(
            "SELECT outcome FROM session.open_session('s', 'alice', 'd', interval '1 hour', 10, '{}', 'pod-1')"
        )
        assert opened == "created"
        with pytest.raises(asyncpg.LockNotAvailableError):
            await service.fetch("SELECT * FROM session")


async def test_who_resets_its_timeouts_is_ended_by_the_guard(sandboxes: Sandboxes) -> None:
    attacker, service = await sandboxes.shared(), await sandboxes.service()
    for setting in ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"):
        await attacker.execute(f"SET {setting} = 0")
    sleeping = asyncio.ensure_future(attacker.execute("SELECT pg_sleep(600)"))

    async def ended() -> int:
        made: int = await service.fetchval("SELECT ended FROM sandbox.guard('100 milliseconds')")
        return made

    assert await eventually(ended, within_s=5, what="a transaction of more than 100 ms to be ended") == 1
    with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
        await sleeping
    assert await service.fetchval("SELECT ended FROM sandbox.guard('1 hour')") == 0


async def test_who_changes_its_password_and_settings_finds_them_put_back(sandboxes: Sandboxes) -> None:
    service, dsn = await sandboxes.service(), await sandboxes.own_dsn("attacker")
    attacker = await sandboxes.connect(dsn)
    await attacker.execute("ALTER ROLE CURRENT_USER PASSWORD 'another'")
    await attacker.execute("ALTER ROLE CURRENT_USER SET statement_timeout = 0")
    await attacker.execute("ALTER ROLE CURRENT_USER SET search_path = 'nowhere'")
    # In a database that it cannot enter: of no use, and nothing to be put back each time.
    await attacker.execute("ALTER ROLE CURRENT_USER IN DATABASE postgres SET search_path = 'nowhere'")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn)
    assert tuple(await service.fetchrow("SELECT * FROM sandbox.guard()") or ()) == (0, 1)
    assert tuple(await service.fetchrow("SELECT * FROM sandbox.guard()") or ()) == (0, 0)
    again = await sandboxes.connect(dsn)
    assert await again.fetchval("SHOW statement_timeout") == "30s"
    assert await again.fetchval("SELECT count(*) FROM session") == 0


async def test_roles_have_their_limits(sandboxes: Sandboxes) -> None:
    owner, shared, own = await sandboxes.owner(), await sandboxes.shared(), await sandboxes.own("attacker")
    for connection, limit in ((shared, 40), (own, 10)):
        shown = [
            await connection.fetchval(f"SHOW {name}")
            for name in (
                "statement_timeout",
                "idle_in_transaction_session_timeout",
                "lock_timeout",
                "temp_file_limit",
            )
        ]
        assert shown == ["30s", "1min", "10s", "1GB"]
        role = await owner.fetchrow(
            "SELECT r.*, p.rolpassword FROM pg_roles r JOIN pg_authid p USING (rolname) WHERE rolname = $1",
            await connection.fetchval("SELECT current_user"),
        )
        assert role is not None
        assert role["rolconnlimit"] == limit
        assert role["rolpassword"].startswith("SCRAM-SHA-256$")
        attributes = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
        assert [attribute for attribute in attributes if role[attribute]] == []
    dsn = await sandboxes.own_dsn("attacker")
    for _ in range(9):
        await sandboxes.connect(dsn)
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await asyncpg.connect(dsn)
