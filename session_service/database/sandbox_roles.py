"""The roles that sandboxes log in with, and what they may do (docs/sandbox-sessions.md, ADR 0028).

``sessionuser`` is the documented one, shared by all sandboxes: it sees every row of ``public.session``. A role of
one sandbox sees its own rows and what stands below them. Neither reaches anything else. What they are meant to be
stands in ``sandbox.roles``, where an operator may change limits; ``sandbox.assert_role`` makes it so.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Any, TypeAlias

import asyncpg

from session_service.errors import ConfigurationError

SHARED_ROLE = "sessionuser"
ROLE_PREFIX = "sandbox_"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

SHARED_CONNECTIONS = 40  # of all sandboxes together
OWN_CONNECTIONS = 10
_SETTINGS = (
    "statement_timeout=30s",
    "idle_in_transaction_session_timeout=60s",
    "lock_timeout=10s",
    "temp_file_limit=1048576",  # kB; the one that a role cannot raise for itself, since only a superuser gives it
)
_SETTINGS_SINCE_17 = ("transaction_timeout=2min",)
_VERSION_17 = 170000

_SCRAM_ITERATIONS = 4096  # PostgreSQL's own default
_SALT_BYTES = 16

_FUNCTIONS = (
    "public.session_claim(text, double precision)",
    "public.session_extend(uuid, uuid, double precision)",
    "public.session_complete(uuid, uuid, jsonb)",
    "public.session_fail(uuid, uuid, text, boolean, double precision)",
    "public.session_append_message(uuid, jsonb)",
    "public.session_children(uuid, integer, integer)",
    "public.session_delete(uuid)",
)
_CONTENT = "messages, inbox_status, sbx_config, parent, max_attempts"
_SHARED_RIGHTS = (
    "GRANT SELECT, DELETE ON public.session TO {role}",
    f"GRANT INSERT (id, created_at, updated_at, {_CONTENT}) ON public.session TO {{role}}",
    f"GRANT UPDATE (created_at, updated_at, {_CONTENT}) ON public.session TO {{role}}",
    "GRANT EXECUTE ON FUNCTION sandbox.sees_every_row() TO {role}",
)
# No id: whether one is taken would tell of somebody else's row. No instants: they decide the order. No DELETE:
# whoever has it may lock the table; there is session_delete.
_OWN_RIGHTS = (
    "GRANT SELECT ON public.session TO {role}",
    f"GRANT INSERT ({_CONTENT}), UPDATE ({_CONTENT}) ON public.session TO {{role}}",
)
_SERVICE_RIGHTS = (
    "GRANT SELECT, INSERT, UPDATE, DELETE ON public.session TO {role}",
    "GRANT USAGE ON SCHEMA sandbox TO {role}",
    "GRANT SELECT, DELETE ON sandbox.removals TO {role}",
    "GRANT SELECT ON sandbox.database_size, sandbox.table_size, sandbox.connections, sandbox.slow_queries,"
    " sandbox.status_counts, sandbox.oldest_pending TO {role}",
    "GRANT EXECUTE ON FUNCTION sandbox.sees_every_row(), sandbox.guard(interval) TO {role}",
)
# What PostgreSQL lets everybody call, with which one who is in this database can hold up or harm the others: advisory
# locks (the service's own, whose keys pg_locks shows), large objects, and the ends of other connections of its role.
_ADVISORY_LOCKS = "^pg_(try_)?advisory_"
_HARMFUL = rf"{_ADVISORY_LOCKS}|^lo_|^lo(read|write)$|^pg_(cancel|terminate)_backend$|^pg_logical_emit_message$"
_OPEN_TO_ALL = """
    SELECT p.oid::regprocedure::text AS function FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ $1
      AND has_function_privilege(0, p.oid, 'EXECUTE') -- 0: PUBLIC
    ORDER BY 1
"""

Connection: TypeAlias = "asyncpg.Connection[Any]"


async def prepare(connection: Connection, *, service_role: str | None, password: str | None) -> tuple[str, ...]:
    """Make ``sessionuser`` where it is absent, and give it and the service their rights; repeatable.

    Without a password a new role cannot log in, and one that is there stays as it is. Returns what could not be done
    with the rights of this connection, a line each: only a superuser can take PostgreSQL's own functions from all.
    """
    async with connection.transaction():
        await _close_what_is_open_to_all(connection)
        notes = await _take_harmful_functions(connection, service_role)
        made = await _create(connection, SHARED_ROLE)
        if made or password:
            verifier = scram_verifier(password, secrets.token_bytes(_SALT_BYTES)) if password else None
            await _describe(connection, SHARED_ROLE, SHARED_CONNECTIONS, own_rows_only=False, verifier=verifier)
        await _grant(connection, SHARED_ROLE, _SHARED_RIGHTS)
        await _show_every_row(connection, SHARED_ROLE)
        if service_role:
            await _grant(connection, service_role, _SERVICE_RIGHTS)
            await _show_every_row(connection, service_role)
    return notes


async def make_role(dsn: str, name: str) -> tuple[str, str]:
    """Make the role of one sandbox, or give it a new password; returns the role, and the password, kept nowhere.

    Raises ConfigurationError for a name that is none; ``asyncpg.PostgresError`` and ``OSError`` as they come.
    """
    role, password = role_of(name), secrets.token_urlsafe(24)
    verifier = scram_verifier(password, secrets.token_bytes(_SALT_BYTES))
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await _create(connection, role)
            await _describe(connection, role, OWN_CONNECTIONS, own_rows_only=True, verifier=verifier)
            await _grant(connection, role, _OWN_RIGHTS)
    finally:
        await connection.close()
    return role, password


async def remove_role(dsn: str, name: str) -> bool:
    """Remove the role of one sandbox, end its connections, and leave its rows to ``sessionuser``, so that a later
    role of the same name does not get them. Returns whether there was one. Raises as ``make_role``.
    """
    role = role_of(name)
    quoted = _quote(role)
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            if not await _exists(connection, role):
                return False
            await connection.execute(f"ALTER ROLE {quoted} NOLOGIN")
            try:
                async with connection.transaction():
                    await connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role
                    )
            except asyncpg.InsufficientPrivilegeError:
                pass  # not a superuser's, nor a member of pg_signal_backend: without a role they are of no use either
            await connection.execute("UPDATE public.session SET owner = $2 WHERE owner = $1", role, SHARED_ROLE)
            await connection.execute(f"REVOKE ALL ON public.session FROM {quoted}")
            for function in _FUNCTIONS:
                await connection.execute(f"REVOKE ALL ON FUNCTION {function} FROM {quoted}")
            await connection.execute(f"REVOKE ALL ON DATABASE {await _database(connection)} FROM {quoted}")
            await connection.execute("DELETE FROM sandbox.roles WHERE role_name = $1", role)
            await connection.execute(f"DROP ROLE {quoted}")
    finally:
        await connection.close()
    return True


async def assert_restored(connection: Connection) -> None:
    """Give the roles of a restored ``sandbox.roles`` what no archive holds: CONNECT, and to those that cannot log in
    (none can that was made for the restore) passwords and limits. One that can may be in use: it keeps its own, until
    ``sandbox.guard`` is called. Raises ``asyncpg.PostgresError`` as it comes.
    """
    async with connection.transaction():
        database = await _database(connection)
        roles = await connection.fetch(
            "SELECT r.rolname::text AS role, r.rolcanlogin AS in_use"
            " FROM sandbox.roles s JOIN pg_roles r ON r.rolname = s.role_name ORDER BY 1"
        )
        for row in roles:
            await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {_quote(row['role'])}")
            if not row["in_use"]:
                await connection.execute("SELECT sandbox.assert_role($1)", row["role"])


async def show_every_row_to_owner(connection: Connection) -> None:
    """Row-level security holds for the owner too, who need not be the one that the policy was made with.

    Nothing happens where there is no such table yet.
    """
    if await connection.fetchval("SELECT to_regclass('public.session') IS NULL"):
        return
    await _show_every_row(connection, await connection.fetchval("SELECT current_user::text"))


def role_of(name: str) -> str:
    """The role of the sandbox called ``name``. Raises ConfigurationError."""
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError("NAME", "1 to 40 of a-z, 0-9 and _, beginning with a letter", repr(name))
    return ROLE_PREFIX + name


def scram_verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL stores of a password (RFC 5803). Made here, so that the password is in no statement and no log.

    ``password`` is printable ASCII, which SASLprep (RFC 4013) leaves as it is.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded_salt, encoded_stored, encoded_server = (
        base64.b64encode(value).decode() for value in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{encoded_salt}${encoded_stored}:{encoded_server}"


async def _close_what_is_open_to_all(connection: Connection) -> None:
    await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await connection.execute(f"REVOKE TEMPORARY ON DATABASE {await _database(connection)} FROM PUBLIC")


async def _take_harmful_functions(connection: Connection, service_role: str | None) -> tuple[str, ...]:
    functions = await connection.fetch(_OPEN_TO_ALL, _HARMFUL)
    if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        if not functions:
            return ()
        return (
            f"{SHARED_ROLE} can take advisory locks and make large objects: to revoke that, migrate as a superuser",
        )
    for row in functions:
        await connection.execute(f"REVOKE ALL ON FUNCTION {row['function']} FROM PUBLIC")
    # Of the service, and of the owner, who migrates under such a lock and need not be a superuser the next time.
    owner = await connection.fetchval("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'sandbox'")
    takers = [owner] if service_role is None else [owner, _quote(service_role)]
    locks = await connection.fetch(
        "SELECT oid::regprocedure::text AS function FROM pg_proc"
        " WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ $1",
        _ADVISORY_LOCKS,
    )
    listed = ", ".join(row["function"] for row in locks)
    for taker in takers:
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {listed} TO {taker}")
    return ()


async def _create(connection: Connection, role: str) -> bool:
    """Whether it had to be made. One that is there keeps its password until it is given another."""
    if await _exists(connection, role):
        return False
    await connection.execute(f"CREATE ROLE {_quote(role)} NOLOGIN")
    return True


async def _exists(connection: Connection, role: str) -> bool:
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role))


async def _describe(
    connection: Connection, role: str, connection_limit: int, *, own_rows_only: bool, verifier: str | None
) -> None:
    settings = [*_SETTINGS]
    if connection.get_server_version().major * 10000 >= _VERSION_17:
        settings += _SETTINGS_SINCE_17
    await connection.execute(
        "INSERT INTO sandbox.roles (role_name, own_rows_only, connection_limit, settings, verifier)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (role_name) DO UPDATE SET verifier = EXCLUDED.verifier",
        role,
        own_rows_only,
        connection_limit,
        settings,
        verifier,
    )
    await connection.execute("SELECT sandbox.assert_role($1)", role)


async def _grant(connection: Connection, role: str, rights: tuple[str, ...]) -> None:
    quoted = _quote(role)
    await connection.execute(f"GRANT CONNECT ON DATABASE {await _database(connection)} TO {quoted}")
    await connection.execute(f"GRANT EXECUTE ON FUNCTION {', '.join(_FUNCTIONS)} TO {quoted}")
    for right in rights:
        await connection.execute(right.format(role=quoted))


async def _show_every_row(connection: Connection, role: str) -> None:
    """Add the role to the policy; a change of it locks the table, so only where it is not there."""
    roles = await connection.fetchval(
        "SELECT roles::text[] FROM pg_policies"
        " WHERE schemaname = 'public' AND tablename = 'session' AND policyname = 'every_row'"
    )
    if role not in roles:
        listed = ", ".join(_quote(name) for name in (*roles, role))
        await connection.execute(f"ALTER POLICY every_row ON public.session TO {listed}")


async def _database(connection: Connection) -> str:
    name: str = await connection.fetchval("SELECT quote_ident(current_database())")
    return name


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
