"""The commands (docs/configuration.md, "Commands"). The environment is read here, once.

Exit codes: 0 orderly; 1 failed while running; 2 wrong use or configuration, with one line that names the variable.
Heavy modules are imported by the command that needs them: `token` must not wait for the Kubernetes client.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from session_service import __version__, config
from session_service.errors import BackendUnavailableError, BackupError, ConfigurationError, SchemaError

if TYPE_CHECKING:
    # argparse has no public name for what add_subparsers returns.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
T = TypeVar("T")
LOCAL_DATA_DIR = ".local"  # where `local` keeps its data unless told otherwise


def run(arguments: Sequence[str], *more_commands: Callable[[Commands], None]) -> int:
    """Run one command; returns the exit code. ``more_commands`` add those of the layers above."""
    options = _parser(more_commands).parse_args(arguments)  # wrong use ends with 2 here
    environ = dict(os.environ)
    try:
        dotenv = config.read_dotenv(Path(".env"))
        code: int = options.command(options, environ, dotenv)
    except ConfigurationError as error:
        print(f"session-service: {error.message}", file=sys.stderr)
        return EXIT_USAGE
    except (SchemaError, BackupError) as error:
        print(f"session-service: {error.message}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    return code


class _ExactParser(argparse.ArgumentParser):
    """Takes options by their whole names, and so do its commands: `--pod 3` is a mistake, not `--pods 3`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)


def _parser(more_commands: Sequence[Callable[[Commands], None]]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _ExactParser(
        prog="session-service",
        description="Every user session gets its own exchange simulator, and a live connection that survives.",
    )
    parser.add_argument("--version", action="version", version=f"session-service {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="one pod, configured by the environment")
    serve.set_defaults(command=_serve)

    migrate = commands.add_parser("migrate", help="apply the database schema and the service role's rights")
    migrate.set_defaults(command=_migrate)

    sandbox_role = commands.add_parser(
        "sandbox-role", help="make the database role of one sandbox, or give it a new password, and print its DSN"
    )
    sandbox_role.add_argument("name", metavar="NAME", help="of the sandbox; its role is sandbox_NAME")
    sandbox_role.add_argument("--remove", action="store_true", help="remove the role; its rows stay")
    sandbox_role.add_argument(
        "--data-dir", type=Path, default=None, help="in the database of the local run in this folder"
    )
    sandbox_role.set_defaults(command=_sandbox_role)

    order = commands.add_parser(
        "order-named-sessions",
        help="bring the named sessions that another service left in order, and print what was changed",
        description="One JSON line for each row that changes, and a last one with the sums once all is committed.",
    )
    order.add_argument("--dry-run", action="store_true", help="print the same, and change nothing")
    order.add_argument("--data-dir", type=Path, default=None, help="in the database of the local run in this folder")
    order.set_defaults(command=_order_named_sessions)

    backup = commands.add_parser("backup", help="write the database to one file, of one instant, while pods serve")
    backup.add_argument("file", metavar="FILE", type=Path, help="to be written; pg_restore can read it too")
    backup.add_argument("--force", action="store_true", help="replace FILE if it is there, once the new one is whole")
    restore = commands.add_parser(
        "restore", help="restore such a file into an empty database, and compare every table with it"
    )
    restore.add_argument("file", metavar="FILE", type=Path, help="as `backup` wrote it")
    restore.add_argument(
        "--as-copy",
        action="store_true",
        help="with an identity of its own and no simulators, to serve beside the original",
    )
    for command, handler in ((backup, _backup), (restore, _restore)):
        command.add_argument("--database", default=None, help="[DB_NAME, or that of the local run]")
        command.add_argument(
            "--data-dir", type=Path, default=None, help="on the server of the local run in this folder"
        )
        command.set_defaults(command=handler)

    token = commands.add_parser("token", help="print a token, signed with SECRET_KEY or the key of a local run")
    token.add_argument("--user-id", required=True, help="the token's subject")
    token.add_argument("--ttl", type=int, default=None, help="lifetime in seconds [ACCESS_TOKEN_EXPIRE_MINUTES]")
    token.add_argument("--scope", default="", help="scopes, separated by spaces")
    token.add_argument(
        "--data-dir", type=Path, default=None, help="sign with the key of the local run in this folder"
    )
    token.set_defaults(command=_token)

    for add_command in more_commands:
        add_command(commands)

    show = commands.add_parser("config", help="print the effective configuration, secrets masked")
    show.add_argument("--markdown", action="store_true", help="the table of docs/configuration.md")
    show.set_defaults(command=_config)
    return parser


# --- serve ---------------------------------------------------------------------------------------------------------


def _serve(_options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    settings = config.load(environ, dotenv).settings
    config.check_for_serving(settings)
    # The imports below take a second, and process 1 of a container ignores a signal that it has no handler for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: sys.exit(EXIT_OK))
    import uvloop

    from session_service.telemetry import logs

    logs.configure(settings.log, settings.server.pod_name)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve_until_signal(settings, environ))


async def _serve_until_signal(settings: config.Settings, environ: Mapping[str, str]) -> int:
    from session_service.server import SessionServer

    server = SessionServer(settings, environ)
    stopping: list[asyncio.Task[None]] = []

    def on_signal(number: signal.Signals) -> None:
        if stopping:
            # Somebody does not want to wait. Nothing may stand in the way: not a step, not a handler at exit.
            os._exit(EXIT_FAILED)
        stopping.append(asyncio.ensure_future(server.shutdown(number.name)))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await server.initialize()
    try:
        await server.start()
    except (OSError, BackendUnavailableError) as error:
        detail = error.detail if isinstance(error, BackendUnavailableError) else error.strerror or error
        print(f"session-service: cannot start: {detail}", file=sys.stderr)
        await server.shutdown("start failed")
        return EXIT_FAILED
    await server.wait_for_shutdown()
    return server.exit_code


# --- migrate -------------------------------------------------------------------------------------------------------


def _migrate(_options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    settings = config.load(environ, dotenv).settings
    config.check_sandbox_password(settings)
    import asyncpg

    from session_service.database.migrations import migrate

    database = settings.database
    try:
        report = asyncio.run(
            migrate(
                _owner_dsn(database),
                service_role=database.user,
                service_password=database.password or None,
                sandbox_password=settings.sandbox.password or None,
            )
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        print(f"session-service: the database cannot be migrated: {error or type(error).__name__}", file=sys.stderr)
        return EXIT_FAILED
    for name in report.applied:
        print(f"applied {name}")
    print(
        f"schema version {report.version}, nothing to do"
        if not report.applied
        else f"schema version {report.version}"
    )
    for note in report.notes:
        print(f"session-service: {note}", file=sys.stderr)
    return EXIT_OK


def _owner_dsn(database: config.DatabaseSettings) -> str:
    user = database.migrate_user or database.user
    password = database.migrate_password if database.migrate_user else database.password
    credentials = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return (
        f"postgresql://{credentials}@{database.host}:{database.port}/{quote(database.name, safe='')}"
        f"?sslmode={database.sslmode}"
    )


# --- sandbox-role --------------------------------------------------------------------------------------------------


def _sandbox_role(options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    settings = config.load(environ, dotenv).settings
    import asyncpg

    from session_service.database import sandbox_roles

    owner_dsn = _owner_dsn(settings.database) if options.data_dir is None else _local_run(options.data_dir).postgres
    try:
        if options.remove:
            removed = asyncio.run(sandbox_roles.remove_role(owner_dsn, options.name))
            print(f"session-service: {'removed' if removed else 'there is no'} {sandbox_roles.role_of(options.name)}")
            return EXIT_OK if removed else EXIT_FAILED
        role, password = asyncio.run(sandbox_roles.make_role(owner_dsn, options.name))
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        what = "removed" if options.remove else "made"
        print(f"session-service: the role cannot be {what}: {error or type(error).__name__}", file=sys.stderr)
        return EXIT_FAILED
    place = urlsplit(owner_dsn)
    print(urlunsplit(place._replace(netloc=f"{role}:{password}@{place.hostname}:{place.port}")))
    return EXIT_OK


# --- order-named-sessions ------------------------------------------------------------------------------------------


def _order_named_sessions(options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    settings = config.load(environ, dotenv).settings
    import asyncpg

    from session_service.database.named_session_order import order_named_sessions

    owner_dsn = _owner_dsn(settings.database) if options.data_dir is None else _local_run(options.data_dir).postgres
    try:
        summary = asyncio.run(order_named_sessions(owner_dsn, _print_json_lines, dry_run=options.dry_run))
        _print_json_lines([{"summary": summary}])
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(
            f"session-service: the named sessions cannot be brought in order: {error or type(error).__name__}",
            file=sys.stderr,
        )
        return EXIT_FAILED
    return EXIT_OK


def _print_json_lines(values: Sequence[Any]) -> None:
    """Written when it returns, in UTF-8, as JSON is, whatever the terminal's encoding.

    Not by way of Python's buffer: what cannot be written would be tried once more at the end, with another exit code.
    """
    left = memoryview(b"".join(msgspec.json.encode(value) + b"\n" for value in values))
    while left:
        left = left[os.write(sys.stdout.fileno(), left) :]


# --- backup, restore -----------------------------------------------------------------------------------------------


def _backup(options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    settings = config.load(environ, dotenv).settings
    from session_service.database.backups.dump import take_backup

    manifest = _run_until_signal(
        take_backup(_backup_dsn(options, settings), options.file, environ=environ, replace=options.force)
    )
    print(
        f"{options.file}: {len(manifest.tables)} tables with {manifest.rows} rows,"
        f" schema version {manifest.schema_version}, {options.file.stat().st_size} bytes"
    )
    return EXIT_OK


def _restore(options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    settings = config.load(environ, dotenv).settings
    from session_service.database.backups.restore import restore_backup

    # A local run knows its own service role; its rights are in the backup.
    service_role = settings.database.user if options.data_dir is None else None
    report = _run_until_signal(
        restore_backup(
            _backup_dsn(options, settings),
            options.file,
            environ=environ,
            service_role=service_role,
            service_password=settings.database.password or None,
            as_copy=options.as_copy,
        )
    )
    width = max(len(name) for name in (*report.manifest.tables, *report.differing))
    for name, table in report.manifest.tables.items():
        print(f"{name:<{width}}  {table.rows:>12}  {report.differing.get(name, 'as it was')}")
    for role in report.made_roles:
        print(f"session-service: made the role {role}, which this server did not have", file=sys.stderr)
    if report.migration is None:
        differing = ", ".join(f"{name} {difference}" for name, difference in report.differing.items())
        raise BackupError(f"the database is not as it was backed up, do not use it: {differing}")
    for note in report.migration.notes:
        print(f"session-service: {note}", file=sys.stderr)
    print(f"restored {report.manifest.rows} rows of {report.manifest.taken_at}, schema {report.migration.version}")
    return EXIT_OK


def _backup_dsn(options: argparse.Namespace, settings: config.Settings) -> str:
    dsn = _owner_dsn(settings.database) if options.data_dir is None else _local_run(options.data_dir).postgres
    if options.database is None:
        return dsn
    return urlunsplit(urlsplit(dsn)._replace(path="/" + quote(options.database, safe="")))


def _run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which SIGTERM, SIGINT and SIGHUP cancel: it ends what it has begun first.

    Raises BackupError then, and where the server or a file cannot be used.
    """
    import asyncpg

    async def whole() -> T:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(whole())
    except asyncio.CancelledError:
        raise BackupError("ended by a signal; nothing is left of what was begun") from None
    except (ConnectionRefusedError, socket.gaierror) as error:
        raise BackupError(f"the database cannot be reached: {error}") from error
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise BackupError(named or type(error).__name__) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise BackupError(str(error)) from error


# --- token ---------------------------------------------------------------------------------------------------------


class _LocalRun(msgspec.Struct):
    secret_key: str
    postgres: str = ""


def _token(options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    settings = config.load(environ, dotenv).settings
    from session_service.clients.token_signer import sign_token

    auth = settings.auth
    ttl_s = options.ttl if options.ttl is not None else auth.token_lifetime_minutes * 60
    if ttl_s < 1:
        raise ConfigurationError("--ttl", "at least 1 second", str(ttl_s))
    if not options.user_id:
        raise ConfigurationError("--user-id", "a non-empty text", "empty")
    secret = _signing_key(options.data_dir, auth.secret_key)
    try:
        token = sign_token(
            secret,
            auth.algorithm,
            options.user_id,
            now_s=time.time(),
            ttl_s=ttl_s,
            scope=options.scope,
            issuer=auth.issuer,
            audience=auth.audience,
            user_claim=auth.user_claim,
        )
    except ValueError as error:
        raise ConfigurationError(
            "ALGORITHM", f"one that SECRET_KEY can sign with ({error})", auth.algorithm
        ) from None
    print(token)
    return EXIT_OK


def _signing_key(data_dir: Path | None, secret_key: str) -> str:
    """The key of the local run in ``data_dir``; else SECRET_KEY; else that of a local run in the usual folder."""
    if data_dir is None and secret_key:
        return secret_key
    try:
        return _local_run(data_dir or Path(LOCAL_DATA_DIR)).secret_key
    except ConfigurationError:
        if data_dir is None:
            raise ConfigurationError("SECRET_KEY", "set, or a local run must be there (--data-dir)") from None
        raise


def _local_run(data_dir: Path) -> _LocalRun:
    try:
        return msgspec.json.decode((data_dir / "local.json").read_bytes(), type=_LocalRun)
    except (OSError, msgspec.MsgspecError):
        raise ConfigurationError("--data-dir", "the folder of a local run that is up", repr(str(data_dir))) from None


# --- config --------------------------------------------------------------------------------------------------------


def _config(options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    configuration = config.load(environ, dotenv)
    if options.markdown:
        print("| variable | must be | default |\n|---|---|---|")
        for value in configuration.effective:
            print(f"| `{value.variable}` | {value.must_be} | {value.default or '–'} |")
        return EXIT_OK
    width = max(len(value.variable) for value in configuration.effective)
    for value in configuration.effective:
        print(f"{value.variable:<{width}}  {value.value or '-'}  ({value.source})")
    return EXIT_OK
