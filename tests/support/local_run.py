"""``session-service local`` as its users start it: a process over a data directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from session_service.clients.token_signer import sign_token
from tests.support.api_client import ApiClient
from tests.support.local_process import free_ports

READY_WITHIN_S = 180.0


class LocalRun:
    """A local run that is ready. ``url`` is its first pod's, ``http`` has it as its base."""

    def __init__(
        self, process: asyncio.subprocess.Process, http: aiohttp.ClientSession, url: str, data: Path
    ) -> None:
        self.process = process
        self.http = http
        self.url = url
        self.data = data

    def described(self) -> dict[str, Any]:
        """What ``local.json`` says now."""
        description: dict[str, Any] = json.loads((self.data / "local.json").read_text())
        return description

    def token(self, user_id: str) -> str:
        return sign_token(self.described()["secret_key"], "HS256", user_id, now_s=time.time(), ttl_s=600)

    def api(self, user_id: str) -> ApiClient:
        api = ApiClient(self.http, user_id)
        api.headers = {"Authorization": f"Bearer {self.token(user_id)}"}
        return api

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextlib.asynccontextmanager
async def local_run(
    data: Path, *, pods: int = 1, environ: Mapping[str, str] | None = None
) -> AsyncIterator[LocalRun]:
    """Start one on a free port and wait until it is ready; at the end it is killed if it still runs."""
    port = free_ports(pods)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "session_service", "local", "--port", str(port), "--pods", str(pods), "--data-dir", str(data)),
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            **(environ or {}),
        },
        cwd=data.parent,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while not (line := await process.stdout.readline()).startswith(b"ready http://"):
                assert line, "it ended before it was ready"
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(url) as http:
            yield LocalRun(process, http, url, data)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined] # asyncio has no public way
