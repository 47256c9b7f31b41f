"""Commands that find no PostgreSQL say so, and where they looked, in one line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from session_service.local.ports import free_port


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("backup", "b.backup"), "the database cannot be reached: "),
        (("sandbox-role", "vm_1"), "the role cannot be made: "),
        (("sandbox-role", "vm_1", "--remove"), "the role cannot be removed: "),
    ],
)
async def test_it_is_one_line_that_says_where(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "session_service", *arguments),
        env={"PATH": os.environ["PATH"], "DB_HOST": "127.0.0.1", "DB_PORT": str(port), "DB_PASSWORD": "hidden"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    (line,) = errors.decode().splitlines()
    assert line.startswith(f"session-service: {said}")
    assert str(port) in line
    assert "hidden" not in line
