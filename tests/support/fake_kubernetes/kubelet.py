"""Containers: real processes of the exchange simulator, with the environment that a kubelet would give them."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from typing import Any

Manifest = dict[str, Any]

_LISTENING = re.compile(rb"listening on 127\.0\.0\.1:(\d+)")
_REFERENCE = re.compile(r"\$(\$|\([-._A-Za-z0-9]+\))")


def expanded(variables: list[Manifest]) -> dict[str, str]:
    """The environment that a container's ``env`` makes: ``$(NAME)`` is an earlier variable, ``$$`` is ``$``."""
    environ: dict[str, str] = {}

    def replaced(match: re.Match[str]) -> str:
        what = match[1]
        return "$" if what == "$" else environ.get(what[1:-1], match[0])

    for variable in variables:
        environ[variable["name"]] = _REFERENCE.sub(replaced, variable.get("value", ""))
    return environ


class SimulatorProcess:
    """One container's process, on a port of this machine."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    @classmethod
    async def start(cls, container: Manifest) -> SimulatorProcess:
        assert container["args"] == ["exchange-simulator"]
        given = expanded(container["env"])
        assert given.pop("PORT") == "50055"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "exchange_simulator"),
            env={**given, "HOST": "127.0.0.1", "PORT": "0", "PYTHONUNBUFFERED": "1", "PATH": os.environ["PATH"]},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        match = _LISTENING.search(line)
        assert match is not None, line
        return cls(process, int(match[1]))

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        # The transport's own end, so that no pipe is left to the garbage collector.
        self._process._transport.close()  # type: ignore[attr-defined] # asyncio has no public way
