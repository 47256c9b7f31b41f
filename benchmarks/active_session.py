"""GET /api/v1/sessions/active (row 7): from the cache with 32 clients; with one client from the cache and without it.

Beside it in the same run, on the same PostgreSQL and the same Redis: the document's microservice in the document's
stack, and the least that answers from the cache at all, bare aiohttp with PyJWT and one Redis GETEX. The one client's
misses are of users whom nobody has asked for before: no token is known, and what is cached of them is removed first.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import redis

from benchmarks.http_load.generator import Load, LoadGenerator
from benchmarks.http_load.rounds import Rounds
from benchmarks.http_load.server_process import Target, server_process
from benchmarks.named_rivals.installation import AS_WRITTEN, BARE, PRODUCT, Installation, installation
from benchmarks.support import report

CLIENTS = 32
ROUND_S = 2.0
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
MISSES = 200  # a round
FIRST_MISS = 1_000  # the user ids below are those of the clients
TTL_S = 3600
KEY = "session:active:user:{}"


def fill_the_bare_cache(installed: Installation) -> None:
    with redis.Redis.from_url(installed.redis_urls[BARE]) as client:
        for user_id in range(1, CLIENTS + 1):
            client.set(KEY.format(user_id), "550e8400-e29b-41d4-a716-446655440000", ex=TTL_S)


def forget(redis_url: str, user_ids: Iterable[int]) -> None:
    """Whose rows were just inserted may be in the cache without having been asked for."""
    with redis.Redis.from_url(redis_url) as client:
        client.delete(*(KEY.format(user_id) for user_id in user_ids))


def compare(installed: Installation, generator: LoadGenerator) -> dict[str, Any]:
    asyncio.run(installed.seed(1, CLIENTS))
    asyncio.run(installed.seed(FIRST_MISS, FIRST_MISS + MISSES * (ROUNDS + 1)))
    fill_the_bare_cache(installed)
    lookups = [installed.lookup(user_id) for user_id in range(1, CLIENTS + 1)]
    servers = [installed.product, installed.as_written, installed.bare]

    def hits(target: Target, _number: int) -> Load:
        return Load(target.port, [[lookup] for lookup in lookups], ROUND_S)

    def hits_of_one(target: Target, _number: int) -> Load:
        return Load(target.port, [lookups[:1]], ROUND_S / 2)

    def misses_of_one(target: Target, number: int) -> Load:
        users = range(FIRST_MISS + number * MISSES, FIRST_MISS + (number + 1) * MISSES)
        forget(installed.redis_urls[target.name], users)
        return Load(target.port, [[installed.lookup(user_id) for user_id in users]], None)

    with server_process("fixed answer", "benchmarks.http_load.fixed_answer") as fixed:
        many, one, missed, ceiling = Rounds(servers), Rounds(servers), Rounds(servers[:2]), Rounds([fixed])
        many.run(generator, hits, rounds=ROUNDS)
        one.run(generator, hits_of_one, rounds=ROUNDS)
        missed.run(generator, misses_of_one, rounds=ROUNDS)
        ceiling.run(generator, hits, rounds=1)
    return {
        **many.figures(f"hit, {CLIENTS} clients"),
        **one.figures("hit, 1 client"),
        **missed.figures("miss, 1 client"),
        "what the load generator can do: requests/s": round(ceiling.per_s("fixed answer")),
        f"hit: to {BARE} (reach 0.85)": many.ratio(PRODUCT, BARE),
        f"hit: to {AS_WRITTEN} (reach 4.5)": many.ratio(PRODUCT, AS_WRITTEN),
        "hit, 1 client: goal p50 ms": 1.0,
        "miss, 1 client: goal p50 ms": 3.0,
    }


def main() -> None:
    with installation() as installed, LoadGenerator() as generator:
        figures = compare(installed, generator)
    packages = ("aiohttp", "asyncpg", "fastapi", "psycopg2-binary", "pyjwt", "python-jose", "redis", "sqlalchemy",
                "uvicorn", "uvloop")  # fmt: skip
    report("active_session", packages, figures)


if __name__ == "__main__":
    main()
