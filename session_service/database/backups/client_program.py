"""Runs pg_dump and pg_restore: no password in an argument, no question asked, no process left behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

from session_service.aiokit.child_process import ChildProcess, ended_because
from session_service.errors import BackupError

_END_LIMIT_S = 5.0  # on SIGTERM both ask the server to cancel what it does for them
_SAID_LIMIT_BYTES = 65536
# What would lead libpq elsewhere than the connection string says.
_ELSEWHERE = ("PGHOSTADDR", "PGSERVICE", "PGOPTIONS")


async def run_client_program(
    program: Path, dsn: str, arguments: Sequence[str], *, environ: Mapping[str, str], stdout: BinaryIO | None = None
) -> None:
    """Run ``program`` on the database at ``dsn`` to its end. Raises BackupError with what it said, if it failed.

    Cancelled, it ends the program first.
    """
    place, password = _without_password(dsn)
    passed = {name: value for name, value in environ.items() if name not in _ELSEWHERE}
    if password:
        passed["PGPASSWORD"] = password
    process = await ChildProcess.start(
        [str(program), f"--dbname={place}", "--no-password", *arguments],
        environ={**passed, "LC_ALL": "C"},
        stdout=asyncio.subprocess.DEVNULL if stdout is None else stdout,
        stderr=asyncio.subprocess.PIPE,
    )
    said = b""
    try:
        if process.stderr is not None:
            while part := await process.stderr.read(_SAID_LIMIT_BYTES):
                said = (said + part)[-_SAID_LIMIT_BYTES:]
        code = await process.wait()
    finally:
        await asyncio.shield(process.stop((signal.SIGTERM, _END_LIMIT_S)))
    if code != 0:
        lines = said.decode(errors="replace").splitlines()
        raise BackupError(
            "; ".join([line for line in lines if "error:" in line] or lines)
            or f"{program.name}: {ended_because(code)}"
        )


def _without_password(dsn: str) -> tuple[str, str]:
    parts = urlsplit(dsn)
    user, _, place = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}@{place}")), unquote(password)
