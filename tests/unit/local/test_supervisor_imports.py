"""What a local run imports before its servers are on their way: each module here would hold up its ready line."""

from __future__ import annotations

import subprocess
import sys


def test_nothing_heavy_is_imported_before_the_servers_start() -> None:
    code = (
        "import sys, session_service.local.command, session_service.local.run\n"
        "heavy = {'aiohttp', 'asyncpg', 'grpc', 'jwt', 'opentelemetry', 'redis', 'structlog'}\n"
        "sys.exit(', '.join(sorted(heavy & sys.modules.keys())) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
