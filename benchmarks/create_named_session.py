"""POST /api/v1/sessions/ (row 8): 32 clients, each a user whose sessions become more and more.

Beside it in the same run on the same PostgreSQL and the same Redis: the document's microservice in the document's
stack, and pgbench with the statement of the product, which is what PostgreSQL can do here.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.http_load.generator import NUMBER, Load, LoadGenerator
from benchmarks.http_load.rounds import Rounds
from benchmarks.http_load.server_process import Target
from benchmarks.named_rivals.installation import AS_WRITTEN, POOL_SIZE, PRODUCT, Installation, installation
from benchmarks.support import report
from session_service.database.sql_files import load_queries
from session_service.local.binaries import find_postgres

CLIENTS = 32
ROUND_S = 3.0
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
PGBENCH_S = 5
PGBENCH_USERS = 1_000_000  # and up: nobody else's


def compare(installed: Installation, generator: LoadGenerator) -> dict[str, Any]:
    def creations(target: Target, number: int) -> Load:
        title = f"round {number}, session {NUMBER.decode()}"
        callers = [[installed.creation(user_id, title)] for user_id in range(1, CLIENTS + 1)]
        return Load(target.port, callers, ROUND_S)

    rounds = Rounds([installed.product, installed.as_written])
    rounds.run(generator, creations, rounds=ROUNDS)
    return {
        **rounds.figures(f"{CLIENTS} clients"),
        "pgbench, the product's statement: per s": round(pgbench_per_s(installed.dsns[PRODUCT])),
        f"to {AS_WRITTEN} (reach 6)": rounds.ratio(PRODUCT, AS_WRITTEN),
    }


def pgbench_per_s(dsn: str) -> float:
    """Transactions a second, each the product's one statement, as many at once as the product has connections."""
    statement = load_queries()["named_sessions.create"]
    script = [
        f"\\set user_id {PGBENCH_USERS} + :client_id",
        "\\set number random(1, 1000000000000000)",
        statement.replace("$1", ":user_id").replace("$2", "'session ' || :number"),
    ]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "create.sql"
        file.write_text("\n".join(script) + "\n", encoding="utf-8")
        done = subprocess.run(
            [
                *(find_postgres().directory / "pgbench", "--no-vacuum", "--protocol=prepared"),
                *(f"--client={POOL_SIZE}", "--jobs=1", f"--time={PGBENCH_S}", f"--file={file}", dsn),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise RuntimeError(f"pgbench: {done.stderr}")
    return float(found[1])


def main() -> None:
    with installation() as installed, LoadGenerator() as generator:
        figures = compare(installed, generator)
    packages = ("aiohttp", "asyncpg", "fastapi", "psycopg2-binary", "pyjwt", "python-jose", "redis", "sqlalchemy",
                "uvicorn", "uvloop")  # fmt: skip
    report("create_named_session", packages, figures)


if __name__ == "__main__":
    main()
