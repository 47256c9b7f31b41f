"""Resumes per second and core: on the same pod, and on another pod than the one before (row 6).

A resume is what a client does after its connection was lost: a new upgrade with its token, client id, next attempt
and position; the pod checks the token and the session, writes the socket's row, sends ``connected`` and replays what
the client missed. Then the client loses the connection again, which the pod also has to note. On another pod the
session's owner is not this pod, which therefore claims it.

Two floors in the same run: the same client against a bare aiohttp upgrade with one frame, and the statements of a
resume by pgbench on the same PostgreSQL, with as many connections as a pod has. "Per core" is resumes per second of
the servers' own CPU: the pod's (both pods' for another pod), or the bare server's. PostgreSQL, the exchange and the
clients share the machine with it, so that the rate by the clock is lower.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from benchmarks.idle.servers import aiohttp_bare
from benchmarks.local_run import LocalRun
from benchmarks.reconnects.storm import Outcome, Storm, StormClients
from benchmarks.reconnects.system import open_sessions, trading_system
from benchmarks.support import report
from session_service.database.sql_files import load_queries
from session_service.local.binaries import find_postgres

CLIENTS = int(os.environ.get("BENCH_CLIENTS", "300"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "8"))
AT_ONCE = 64
BEHIND = 5  # updates that each resume is replayed
UPDATE_INTERVAL_MS = 1_000
POOL_SIZE = 10
PGBENCH_S = 5


class Measured:
    """Rounds of storms on the same servers."""

    def __init__(self) -> None:
        self.rates_per_s: list[float] = []
        self.per_core_s: list[float] = []
        self.latencies_s: list[float] = []
        self.refused = self.not_resumed = 0

    def add(self, outcome: Outcome, cpu_s: float) -> None:
        count = len(outcome.latencies_s)
        self.rates_per_s.append(count / outcome.seconds)
        self.per_core_s.append(count / cpu_s)
        self.latencies_s += outcome.latencies_s
        self.refused += outcome.refused
        self.not_resumed += outcome.not_resumed

    def figures(self, name: str) -> dict[str, Any]:
        quantiles = statistics.quantiles(self.latencies_s, n=100)
        return {
            f"{name}: per s": round(statistics.median(self.rates_per_s)),
            f"{name}: per s and core": round(statistics.median(self.per_core_s)),
            f"{name}: CPU us": round(1e6 / statistics.median(self.per_core_s)),
            f"{name}: p50 ms": round(quantiles[49] * 1e3, 1),
            f"{name}: p99 ms": round(quantiles[98] * 1e3, 1),
            f"{name}: refused, not resumed": f"{self.refused}, {self.not_resumed}",
        }


def cpu_s(pids: list[int]) -> float:
    """User and system time so far of these processes."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def storms(clients: StormClients, pids: list[int], port_of: Callable[[int], int], behind: int) -> Measured:
    """Rounds that warm up, then ROUNDS that count; ``port_of`` the number of a round is where it goes.

    It is warm when what is replayed has come while the clients were there, as with a client that loses its connection
    after a while: not with the session's first frames.
    """
    measured = Measured()
    numbers = itertools.count()
    warm_at = time.monotonic() + (behind + 2) * UPDATE_INTERVAL_MS / 1000
    while (number := next(numbers)) < 2 or time.monotonic() < warm_at:
        clients.run(Storm(port_of(number), AT_ONCE, behind))
    for number in itertools.islice(numbers, ROUNDS):
        before_s = cpu_s(pids)
        outcome = clients.run(Storm(port_of(number), AT_ONCE, behind))
        measured.add(outcome, cpu_s(pids) - before_s)
    return measured


# --- the same SQL without us ---------------------------------------------------------------------------------------


def _filled(statement: str, *values: str) -> str:
    """A query of ours as one line for pgbench, ``values`` in place of its $1, $2, …"""
    lines = [line for line in statement.splitlines() if not line.lstrip().startswith("--")]
    text = re.sub(r"\$(\d+)", lambda match: values[int(match[1]) - 1], " ".join(lines))
    return text.strip().rstrip(";") + ";"


async def _call(connection: asyncpg.Connection[Any], function: str, values: Mapping[str, str]) -> str:
    """A call by the function's own argument names, each of which must be one of ``values``."""
    names = await connection.fetchval(
        """SELECT proargnames[1:pronargs] FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
           WHERE nspname = 'session' AND proname = $1""",
        function,
    )
    arguments = ", ".join(f"{name} => {values[name]}" for name in names)
    return f"SELECT * FROM session.{function}({arguments})"


async def pgbench_script(dsn: str, sessions: int) -> str:
    """The statements of one resume and of the loss before it, over ``sessions`` rows made for it."""
    connection = await asyncpg.connect(dsn)
    try:
        for table in ("session.active_sessions", "session.session_metadata"):
            await connection.execute(
                f"""INSERT INTO {table}
                    SELECT (jsonb_populate_record(sample, jsonb_build_object(
                        'session_id', 'bench-' || n, 'user_id', 'bench-' || n))).*
                    FROM {table} sample, generate_series(1, {sessions}) n
                    WHERE sample.session_id = (SELECT min(session_id) FROM session.active_sessions)
                    ON CONFLICT DO NOTHING"""
            )
        pod_id = await connection.fetchval("SELECT pod_id FROM session.pods ORDER BY started_at DESC LIMIT 1")
        session, user = "'bench-' || :n", "'bench-' || :n"
        values = {
            "p_session_id": session,
            "p_client_id": "'tab'",
            "p_pod_id": f"'{pod_id}'",
            "p_attempt": "1",
            "p_kind": "'websocket'",
            "p_timeout": "interval '1 hour'",
            "p_fields": """'{"last_ws_connection": 1795168839}'""",
            "p_reconnect_as": "'tab'",
            "p_crowded": "7",
            "p_by_client": "false",
            "p_arrival": ":opened_arrival",
        }
        queries = load_queries()
        opening = await _call(connection, "open_socket", values)
        closing = await _call(connection, "close_socket", values)
    finally:
        await connection.close()
    return "\n".join(
        [
            f"\\set n random(1, {sessions})",
            _filled(queries["sessions.get"], session, user),
            f"{opening} \\gset" if ":opened_arrival" in closing else f"{opening};",
            _filled(queries["simulators.of_session"], session, "NULL"),
            f"{closing};",
        ]
    )


def pgbench_per_s(run: LocalRun) -> float:
    """Transactions, each the SQL of one resume, per second by the clock."""
    script = asyncio.run(pgbench_script(run.postgres_dsn, CLIENTS))
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "resume.sql"
        file.write_text(script + "\n", encoding="utf-8")
        done = subprocess.run(
            [
                *(find_postgres().directory / "pgbench", "--no-vacuum", "--protocol=prepared"),
                *(f"--client={POOL_SIZE}", "--jobs=1", f"--time={PGBENCH_S}", f"--file={file}", run.postgres_dsn),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise RuntimeError(f"pgbench: {done.stderr}")
    return float(found[1])


# --- the comparison ------------------------------------------------------------------------------------------------


def main() -> None:
    with aiohttp_bare() as server, StormClients([None] * CLIENTS) as clients:
        bare = storms(clients, [server.pid], lambda _number: server.port, 0)
    with trading_system(2, UPDATE_INTERVAL_MS) as run:
        sessions = asyncio.run(open_sessions(run, CLIENTS))
        time.sleep(BEHIND * UPDATE_INTERVAL_MS / 1000)  # until there is something to replay
        with StormClients(sessions) as clients:
            same = storms(clients, run.pod_pids[:1], lambda _number: run.port, BEHIND)
            another = storms(clients, run.pod_pids, lambda number: run.port + number % 2, BEHIND)
        sql_per_s = pgbench_per_s(run)
    per_core = statistics.median(same.per_core_s), statistics.median(another.per_core_s)
    floor_per_s = min(statistics.median(bare.per_core_s), sql_per_s)
    figures = {
        "clients": CLIENTS,
        "at once": AT_ONCE,
        **same.figures("same pod"),
        **another.figures("another pod"),
        **bare.figures("bare aiohttp upgrade"),
        "pgbench, the SQL of a resume: per s": round(sql_per_s),
        "same pod: goal per s and core": 2_500,
        "same pod: to the slower floor": round(per_core[0] / floor_per_s, 2),
        "another pod: to the slower floor (reach 0.5)": round(per_core[1] / floor_per_s, 2),
    }
    report("resume", ("aiohttp", "asyncpg", "uvloop", "msgspec"), figures)


if __name__ == "__main__":
    main()
