"""A local run with the product, and beside it on the same PostgreSQL and the same Redis what it is compared with."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec

from benchmarks.http_load.cores import pin, program_core
from benchmarks.http_load.server_process import Target, server_process
from benchmarks.local_run import LocalRun

PRODUCT, AS_WRITTEN, BARE = "this service", "004 as written", "bare aiohttp"
POOL_SIZE = 10  # connections to PostgreSQL, of each
DATABASE_004 = "named_004"
SESSIONS = "/api/v1/sessions/"
SEED = """
    INSERT INTO public.sessions (user_id, title, active)
    SELECT n, 'seeded', TRUE FROM generate_series($1::int, $2::int) n"""


class Installation(msgspec.Struct, frozen=True):
    """Tokens are valid for all of them. Each has tables and a Redis database of its own."""

    run: LocalRun
    product: Target
    as_written: Target
    bare: Target
    dsns: dict[str, str]  # by the name of the target
    redis_urls: dict[str, str]

    async def seed(self, first_user: int, last_user: int) -> None:
        """An active session, which no cache knows, for each of these users of the product and of 004."""
        for dsn in self.dsns.values():
            connection = await asyncpg.connect(dsn)
            try:
                await connection.execute(SEED, first_user, last_user)
                await connection.execute("ANALYZE public.sessions")
            finally:
                await connection.close()

    def lookup(self, user_id: int) -> bytes:
        return f"GET {SESSIONS}active HTTP/1.1\r\n{self._head(user_id)}\r\n".encode()

    def creation(self, user_id: int, title: str) -> bytes:
        body = json.dumps({"title": title})
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"POST {SESSIONS} HTTP/1.1\r\n{self._head(user_id)}{length}\r\n{body}".encode()

    def _head(self, user_id: int) -> str:
        return f"Host: 127.0.0.1\r\nAuthorization: Bearer {self.run.token(str(user_id))}\r\n"


@contextlib.contextmanager
def installation() -> Iterator[Installation]:
    """The product logs warnings and no requests, as the others do."""
    with contextlib.ExitStack() as exits:
        run = exits.enter_context(LocalRun({"LOG_LEVEL": "WARNING", "DB_MAX_CONNECTIONS": str(POOL_SIZE)}))
        pin(run.pod_pid, program_core())
        asyncio.run(_create_database(run.postgres_dsn))
        postgres, redis = urlsplit(run.postgres_dsn), urlsplit(run.redis_url)
        redis_urls = {
            name: urlunsplit(redis._replace(path=f"/{number}"))
            for number, name in enumerate((PRODUCT, AS_WRITTEN, BARE))
        }
        as_written = exits.enter_context(
            server_process(
                AS_WRITTEN,
                "benchmarks.named_sessions_004",
                SECRET_KEY=run.secret_key,
                DB_HOST=postgres.hostname or "",
                DB_PORT=str(postgres.port),
                DB_USER=postgres.username or "",
                DB_PASSWORD=postgres.password or "",
                DB_NAME=DATABASE_004,
                DB_POOL_SIZE=str(POOL_SIZE),
                REDIS_HOST=redis.hostname or "",
                REDIS_PORT=str(redis.port),
                REDIS_DB=urlsplit(redis_urls[AS_WRITTEN]).path.removeprefix("/"),
                REDIS_PASSWORD=redis.password or "",
            )
        )
        bare = exits.enter_context(
            server_process(
                BARE, "benchmarks.named_rivals.bare", SECRET_KEY=run.secret_key, REDIS_URL=redis_urls[BARE]
            )
        )
        dsns = {PRODUCT: run.postgres_dsn, AS_WRITTEN: urlunsplit(postgres._replace(path=f"/{DATABASE_004}"))}
        yield Installation(run, Target(PRODUCT, run.port, run.pod_pid), as_written, bare, dsns, redis_urls)


async def _create_database(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {DATABASE_004}")
    finally:
        await connection.close()
