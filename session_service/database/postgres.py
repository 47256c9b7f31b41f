"""The PostgreSQL pool: every wait has a limit, every failure a domain error, retries only where they are safe.

SQLSTATE rules (docs/operations.md, "PostgreSQL"):

- 40001, 40P01 (serialization failure, deadlock): the statement did not happen; it is made again at once.
- Class 57, class 08, 53300, 55P03, connection errors: made again only where the caller says that repeating is safe,
  since the reply of a statement that did happen may have been lost.
- 25006 (read-only transaction: a primary that was demoted): the connection is dropped, the error is "unavailable".
- A wrong password, a schema that is not there, no rights, no room (28xxx, 3D000, 42P01, 42501, 53xxx, 58xxx): someone
  must see to it; until then the error is "unavailable", and the log says which.
- 23xxx is an answer: the constraint's name becomes the domain's error, here and nowhere else. So are the SQLSTATEs
  that functions of ours raise: SB001, P0002, and 22023, whose message begins with the name of what is wrong.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import msgspec
import structlog

from session_service.config import DatabaseSettings
from session_service.database.availability import Availability
from session_service.errors import (
    ClaimLostError,
    DatabaseUnavailableError,
    DuplicateSessionTitleError,
    InvalidRequestError,
    PayloadTooLargeError,
    SessionNotFoundError,
    SessionServiceError,
)
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)
T = TypeVar("T")
Record = asyncpg.Record

CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 2.0
REQUEST_LIMIT_S = 2.8  # the longest that one call may take with its retries (docs/operations.md#postgresql)
_ATTEMPTS = 3
_RETRY_PAUSE_S = 0.05

# A violated constraint that callers are to understand. Others are faults of ours, and surface as such.
_CONSTRAINT_ERRORS: dict[str, Callable[[], SessionServiceError]] = {
    "instances_session_id_fkey": SessionNotFoundError,
    "sockets_session_id_fkey": SessionNotFoundError,
    "sockets_pod_id_fkey": DatabaseUnavailableError,  # this pod's row is not there yet, or not any more: soon it is
    "session_metadata_session_id_fkey": SessionNotFoundError,
    "sessions_user_id_title_key": DuplicateSessionTitleError,
    "sessions_one_active_key": DatabaseUnavailableError,  # a write that took no lock came between: soon it is done
    "session_parent_fkey": lambda: InvalidRequestError("parent", "there is no such session"),
    "session_parent_cycle": lambda: InvalidRequestError("parent", "a session cannot stand above itself"),
    "session_parent_depth": lambda: InvalidRequestError("parent", "it stands more than 1,000 levels deep"),
    "session_messages_size": lambda: PayloadTooLargeError(
        "messages", "would be larger than 1 MiB as they are stored"
    ),
    "session_sbx_config_size": lambda: PayloadTooLargeError("sbx_config", "is larger than 1 MiB as it is stored"),
}
# What functions of the schema raise.
_STATE_ERRORS: dict[str, Callable[[], SessionServiceError]] = {
    "SB001": ClaimLostError,
    "P0002": SessionNotFoundError,
}
_ARGUMENT = re.compile(r"([a-z_]+): (.+)", re.DOTALL)

_NOT_DONE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# What goes wrong with one call on a server that is there, as its own line in the log; the rest makes an outage.
_OF_ONE_CALL = (*_NOT_DONE, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
_AWAY = (
    asyncpg.OperatorInterventionError,  # class 57: shutdown, crash, start, and a statement_timeout
    asyncpg.LockNotAvailableError,  # 55P03: a lock_timeout
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.TooManyConnectionsError,  # 53300
    asyncpg.InterfaceError,  # the driver's own: connection closed, pool closing
    asyncpg.InternalClientError,  # the driver's own: the connection broke between two steps of a statement
    OSError,
    TimeoutError,
    EOFError,
)
# Somebody has to set these right: a password, the schema, a full disk. Until then it is as if the server were away.
_UNUSABLE = (
    asyncpg.InvalidAuthorizationSpecificationError,  # class 28
    asyncpg.InvalidCatalogNameError,  # 3D000: no such database
    asyncpg.InvalidSchemaNameError,  # 3F000, and the three below: not migrated, or not granted
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InsufficientResourcesError,  # class 53
    asyncpg.PostgresSystemError,  # class 58
)


def connection_options(settings: DatabaseSettings) -> dict[str, Any]:
    """What each connection of a pod is made with: where to, as whom, and the limits of its waits."""
    return {
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "password": settings.password or None,
        "database": settings.name,
        "ssl": False if settings.sslmode == "disable" else settings.sslmode,
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": COMMAND_TIMEOUT_S,
        # UTC everywhere, and instants that are text as ISO 8601; jit costs more than it gives for statements of a
        # millisecond.
        "server_settings": {
            "application_name": "session-service",
            "timezone": "UTC",
            "datestyle": "ISO",
            "jit": "off",
        },
    }


class Postgres:
    """A pool of connections with limits. Create with ``open``, end with ``close``."""

    def __init__(self, settings: DatabaseSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pool: asyncpg.Pool[Record] | None = None
        self._availability = Availability()

    async def open(self) -> None:
        """Open the pool without connections: a pod starts, and says it is not ready, while PostgreSQL is away."""
        self._pool = await asyncpg.create_pool(
            **connection_options(self._settings),
            min_size=0,
            max_size=self._settings.max_connections,
            max_inactive_connection_lifetime=300,
            init=_register_json,
            reset=_keep_state,
        )

    async def warm_up(self) -> None:
        """Open ``min_connections`` at once. Raises DatabaseUnavailableError."""
        await asyncio.gather(*(self.fetch_value("SELECT 1") for _ in range(self._settings.min_connections)))

    async def close(self, timeout_s: float = 5.0) -> None:
        """Close the pool; connections that do not end in time are terminated."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), timeout_s)
        except TimeoutError:
            pool.terminate()

    async def fetch(self, sql: str, *args: Any, operation: str = "query", repeatable: bool = False) -> list[Record]:
        """All rows of one statement. ``repeatable``: making it twice does no harm, so a lost reply is retried."""
        return await self._run(operation, repeatable, lambda connection: connection.fetch(sql, *args))

    async def fetch_row(
        self, sql: str, *args: Any, operation: str = "query", repeatable: bool = False
    ) -> Record | None:
        """The first row, or None. See ``fetch``."""
        return await self._run(operation, repeatable, lambda connection: connection.fetchrow(sql, *args))

    async def fetch_value(self, sql: str, *args: Any, operation: str = "query", repeatable: bool = False) -> Any:
        """The first column of the first row, or None. See ``fetch``."""
        return await self._run(operation, repeatable, lambda connection: connection.fetchval(sql, *args))

    async def execute(self, sql: str, *args: Any, operation: str = "query", repeatable: bool = False) -> str:
        """Run one statement; returns its command tag. See ``fetch``."""
        return await self._run(operation, repeatable, lambda connection: connection.execute(sql, *args))

    async def transaction(
        self, work: Callable[[asyncpg.pool.PoolConnectionProxy[Record]], Awaitable[T]], *, operation: str
    ) -> T:
        """Run ``work`` in one transaction; it is run again from its start after 40001 and 40P01."""

        async def whole(connection: asyncpg.pool.PoolConnectionProxy[Record]) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self._run(operation, False, whole)

    async def _run(
        self,
        operation: str,
        repeatable: bool,
        call: Callable[[asyncpg.pool.PoolConnectionProxy[Record]], Awaitable[T]],
    ) -> T:
        pool = self._pool
        if pool is None:
            raise DatabaseUnavailableError
        loop = asyncio.get_running_loop()
        started = loop.time()
        measured_from = time.perf_counter()  # the loop's clock may count whole milliseconds
        attempt = 0
        while True:
            attempt += 1
            retry = attempt < _ATTEMPTS and loop.time() - started < REQUEST_LIMIT_S / 2
            tried = _Try(operation, started)
            try:
                async with asyncio.timeout_at(started + REQUEST_LIMIT_S):
                    async with pool.acquire() as connection:
                        tried.has_connection = True
                        try:
                            result = await call(connection)
                        except asyncpg.InternalClientError:
                            # The server ended the connection in the middle of a statement and the driver lost count
                            # of what it does: it must not go back to the pool, where it would fail for ever.
                            connection.terminate()
                            raise
                self._metrics.db_operation_duration_seconds.labels(operation).observe(
                    time.perf_counter() - measured_from
                )
                self._availability.answered(loop.time())
                return result
            except _NOT_DONE as error:
                if not retry:
                    self._failed(pool, tried, error)
                    raise DatabaseUnavailableError from error
            except asyncpg.IntegrityConstraintViolationError as error:
                made = _CONSTRAINT_ERRORS.get(error.constraint_name or "")
                if made is None:
                    self._metrics.db_errors_total.labels(operation).inc()
                    raise
                raise made() from error
            except asyncpg.ReadOnlySQLTransactionError as error:
                # A demoted primary: every connection of the pool leads to it.
                await pool.expire_connections()
                self._failed(pool, tried, error)
                raise DatabaseUnavailableError from error
            except _AWAY as error:  # before _UNUSABLE: 53300 is of class 53, and passes
                if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
                    raise  # the driver refuses a parameter: a fault of ours, which no repetition mends
                if not (retry and repeatable):
                    self._failed(pool, tried, error)
                    raise DatabaseUnavailableError from error
            except _UNUSABLE as error:
                self._failed(pool, tried, error)
                raise DatabaseUnavailableError from error
            except asyncpg.PostgresError as error:
                refused = _refusal(error)
                if refused is None:
                    raise
                raise refused from error
            await asyncio.sleep(_RETRY_PAUSE_S * attempt)

    def _failed(self, pool: asyncpg.Pool[Record], tried: _Try, error: BaseException) -> None:
        self._metrics.db_errors_total.labels(tried.operation).inc()
        now_s = asyncio.get_running_loop().time()
        kind, detail = type(error).__name__, str(error) or f"no answer after {now_s - tried.called_s:.1f} s"
        if tried.has_connection:
            stage = "statement"
        else:  # every connection is lent, or one is being made
            stage = "pool" if pool.get_size() >= pool.get_max_size() else "connect"
        if isinstance(error, _OF_ONE_CALL):
            log.warning("database_call_failed", operation=tried.operation, stage=stage, error=kind, detail=detail)
        else:
            self._availability.failed(tried.operation, stage, kind, detail, tried.called_s)


class _Try:
    """One try of a call: how far it has come. ``called_s``: when the first one began."""

    __slots__ = ("called_s", "has_connection", "operation")

    def __init__(self, operation: str, called_s: float) -> None:
        self.operation = operation
        self.called_s = called_s
        self.has_connection = False


def _refusal(error: asyncpg.PostgresError) -> SessionServiceError | None:
    """What a function of the schema says with this error; None where it is PostgreSQL's own."""
    if isinstance(error, asyncpg.InvalidParameterValueError):
        named = _ARGUMENT.fullmatch(str(error))
        return None if named is None else InvalidRequestError(named[1], named[2])
    made = _STATE_ERRORS.get(error.sqlstate or "")
    return None if made is None else made()


async def _keep_state(_connection: asyncpg.Connection[Record]) -> None:
    """Stand in for the pool's RESET on release: nothing here changes a connection's state, and it is a round trip."""


async def _register_json(connection: asyncpg.Connection[Record]) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + msgspec.json.encode(value),
        decoder=lambda data: msgspec.json.decode(data[1:]),
        format="binary",
    )
