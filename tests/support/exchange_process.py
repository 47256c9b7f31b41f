"""The reference exchange in a process of its own, for many sessions: what backend ``service`` points to."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator

_LISTENING = re.compile(rb"listening on 127\.0\.0\.1:(\d+)")


@contextlib.asynccontextmanager
async def exchange_process(**environ: str) -> AsyncIterator[int]:
    """Start it with these variables; its port. It ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "exchange_simulator"),
        env={"HOST": "127.0.0.1", "PORT": "0", "PYTHONUNBUFFERED": "1", **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            match = _LISTENING.search(await process.stdout.readline())
        assert match is not None
        yield int(match[1])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        # The transport's own end, so that no pipe is left to the garbage collector.
        process._transport.close()  # type: ignore[attr-defined] # asyncio has no public way
