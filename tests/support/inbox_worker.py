"""A worker of the inbox, and as a process of its own: claims and completes until nothing is left.

``python -m tests.support.inbox_worker DSN NAME``
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg

VISIBILITY_S = 1.0
IDLE_S = 0.05
CLAIM_LOST = "SB001"


async def work(dsn: str, name: str) -> None:
    """Until no row is unfinished. Every completion writes who made it, in the transaction that completes."""
    connection = await asyncpg.connect(dsn)
    try:
        while True:
            row = await connection.fetchrow("SELECT id, claim FROM session_claim($1, $2)", name, VISIBILITY_S)
            if row is None:
                if not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM session WHERE inbox_status = 'pending')"
                    " OR EXISTS (SELECT FROM session WHERE inbox_status = 'processing')"
                ):
                    return
                await asyncio.sleep(IDLE_S)  # what others hold may come back
                continue
            try:
                async with connection.transaction():
                    await connection.execute("SELECT session_append_message($1, to_jsonb($2::text))", row["id"], name)
                    await connection.execute("SELECT session_complete($1, $2)", row["id"], row["claim"])
            except asyncpg.PostgresError as error:
                if error.sqlstate != CLAIM_LOST:
                    raise
    finally:
        connection.terminate()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
