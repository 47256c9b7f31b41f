"""Containers: real processes of the exchange simulator, with the environment that a kubelet would give them."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from typing import Any, Protocol

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


class Containers(Protocol):
    """What runs in Pods, each known by its uid."""

    def __contains__(self, uid: object) -> bool: ...

    def address(self, uid: str) -> str | None:
        """host:port of what runs there."""

    async def start(self, uid: str, container: Manifest) -> None:
        """Return when it is ready."""

    async def stop(self, uid: str) -> None:
        """Return when it has ended; at once where nothing runs."""


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


class ProcessContainers:
    """Containers that are processes. Implements Containers."""

    def __init__(self) -> None:
        self._processes: dict[str, SimulatorProcess] = {}

    def __contains__(self, uid: object) -> bool:
        return uid in self._processes

    def address(self, uid: str) -> str | None:
        process = self._processes.get(uid)
        return None if process is None else f"127.0.0.1:{process.port}"

    async def start(self, uid: str, container: Manifest) -> None:
        self._processes[uid] = await SimulatorProcess.start(container)

    async def stop(self, uid: str) -> None:
        if (process := self._processes.pop(uid, None)) is not None:
            await process.stop()

    async def stop_all(self) -> None:
        for uid in list(self._processes):
            await self.stop(uid)
