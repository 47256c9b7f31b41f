"""The roles as commands make them, with and without a superuser."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from session_service.database.migrations import migrate
from session_service.database.sandbox_roles import scram_verifier
from tests.support.cluster_template import SANDBOX_PASSWORD, SERVICE_ROLE
from tests.support.sandboxes import Sandboxes, put
from tests.support.servers import Database, TestServers


async def command(database: Database, directory: Path, *arguments: str, **environ: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of `session-service`."""
    owner = urlsplit(database.owner_dsn)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "session_service", *arguments),
        env={
            "PATH": os.environ["PATH"],
            **database.environ(),
            "MIGRATE_DB_USER": owner.username or "",
            "MIGRATE_DB_PASSWORD": owner.password or "",
            **environ,
        },
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def refused(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn)
    except asyncpg.InvalidAuthorizationSpecificationError:
        return True
    await connection.close()
    return False


async def test_a_role_is_made_given_a_new_password_and_removed(sandboxes: Sandboxes, tmp_path: Path) -> None:
    database = sandboxes.database
    code, output, errors = await command(database, tmp_path, "sandbox-role", "vm_1")
    assert (code, errors) == (0, "")
    first = output.strip()
    assert urlsplit(first).username == "sandbox_vm_1"
    row = await put(await sandboxes.connect(first))
    _code, output, _errors = await command(database, tmp_path, "sandbox-role", "vm_1")
    second = output.strip()
    assert await refused(first)
    connected = await sandboxes.connect(second)
    assert await connected.fetchval("SELECT id FROM session") == row
    assert (await command(database, tmp_path, "sandbox-role", "vm_1", "--remove"))[0] == 0
    assert await refused(second)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connected.fetchval("SELECT 1")
    # Its rows are there, and not for the next of that name.
    assert await (await sandboxes.shared()).fetchval("SELECT owner FROM session WHERE id = $1", row) == "sessionuser"
    code, output, _errors = await command(database, tmp_path, "sandbox-role", "vm_1", "--remove")
    assert (code, output) == (1, "session-service: there is no sandbox_vm_1\n")


@pytest.mark.parametrize("name", ["", "UPPER", "1st", "a b", "a" * 41, 'a"; DROP TABLE session; --', "postgres-x"])
async def test_a_name_that_is_none_is_wrong_use(database: Database, tmp_path: Path, name: str) -> None:
    code, output, errors = await command(database, tmp_path, "sandbox-role", name)
    assert (code, output) == (2, "")
    assert errors.startswith("session-service: NAME must be 1 to 40 of a-z")


async def test_migrate_gives_the_shared_role_its_password(sandboxes: Sandboxes, tmp_path: Path) -> None:
    database = sandboxes.database
    code, _output, errors = await command(database, tmp_path, "migrate", SANDBOX_DB_PASSWORD="another-one")
    assert (code, errors) == (0, "")
    assert await refused(sandboxes.shared_dsn)
    again = await sandboxes.connect(sandboxes.dsn_of("sessionuser", "another-one"))
    assert await again.fetchval("SELECT count(*) FROM session") == 0
    # Without the variable it stays as it is.
    assert (await command(database, tmp_path, "migrate"))[0] == 0
    assert not await refused(sandboxes.dsn_of("sessionuser", "another-one"))
    assert (await command(database, tmp_path, "migrate", SANDBOX_DB_PASSWORD=SANDBOX_PASSWORD))[0] == 0
    assert not await refused(sandboxes.shared_dsn)


async def test_the_documented_password_is_refused_in_production(database: Database, tmp_path: Path) -> None:
    for environment, expected in (("production", 2), ("development", 0)):
        code, output, errors = await command(
            database, tmp_path, "migrate", ENVIRONMENT=environment, SANDBOX_DB_PASSWORD="sessionpass123"
        )
        assert code == expected
        assert "sessionpass123" not in output + errors
    # As documented, then; and put back for the tests that follow, since roles are the whole server's.
    assert (await command(database, tmp_path, "migrate", SANDBOX_DB_PASSWORD=SANDBOX_PASSWORD))[0] == 0


async def test_an_operator_may_change_limits_and_migrate_leaves_them(sandboxes: Sandboxes) -> None:
    owner = await sandboxes.owner()
    dsn = await sandboxes.own_dsn("one")
    await owner.execute(
        "UPDATE sandbox.roles SET connection_limit = 2, settings = array_replace(settings, 'lock_timeout=10s',"
        " 'lock_timeout=3s') WHERE role_name = 'sandbox_one'"
    )
    await owner.execute("SELECT sandbox.assert_role('sandbox_one')")
    dsn = await sandboxes.own_dsn("one")
    one = await sandboxes.connect(dsn)
    assert await one.fetchval("SHOW lock_timeout") == "3s"
    await sandboxes.connect(dsn)
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await asyncpg.connect(dsn)


async def test_an_owner_without_superuser_migrates_and_is_told_what_it_cannot(
    servers: TestServers, sandboxes: Sandboxes
) -> None:
    """As on a managed server. Each time: an earlier run must not take from it what it needs for the next."""
    maintenance = await sandboxes.connect(servers.postgres.dsn("postgres"))
    await maintenance.execute("CREATE ROLE migrator LOGIN CREATEROLE PASSWORD 'migrator'")
    await maintenance.execute("CREATE DATABASE managed OWNER migrator")
    try:
        dsn = f"postgresql://migrator:migrator@127.0.0.1:{servers.postgres.port}/managed"
        for _ in range(2):
            report = await migrate(dsn, service_role=SERVICE_ROLE)
            assert report.notes == (
                "sessionuser can take advisory locks and make large objects: to revoke that, migrate as a superuser",
            )
        # Row-level security is forced on the owner too, whose policy shows it every row: a dump needs that.
        owner = await asyncpg.connect(dsn)
        await owner.execute("INSERT INTO session (owner) VALUES ('sandbox_one')")
        assert await owner.fetchval("SELECT count(*) FROM session") == 1
        await owner.close()
        # A superuser has done it once: there is nothing to tell any more, and the owner can still take its lock.
        assert (await migrate(servers.postgres.dsn("managed"), service_role=SERVICE_ROLE)).notes == ()
        assert (await migrate(dsn, service_role=SERVICE_ROLE)).notes == ()
    finally:
        await maintenance.execute("DROP DATABASE managed WITH (FORCE)")
        await maintenance.execute("DROP ROLE migrator")


def test_verifiers_are_those_of_the_rfc() -> None:
    """RFC 7677 §3: the keys of user "user" with the password "pencil", by which its example's messages are signed."""
    import base64
    import hashlib
    import hmac

    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = scram_verifier("pencil", salt)
    assert verifier.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    stored_key, server_key = (base64.b64decode(key) for key in verifier.rpartition("$")[2].split(":"))
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}".encode()
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(stored_key, message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored_key
    assert hmac.digest(server_key, message, "sha256") == base64.b64decode(
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    )
