"""Containers: real processes of the exchange simulator, with the environment that a kubelet would give them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from tests.support.fake_kubernetes.network import ServiceNetwork

Manifest = dict[str, Any]

_LISTENING = re.compile(rb"listening on (127(?:\.\d+){3}:\d+)")
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
    """One container's process. ``address`` is its host:port."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, environ: Mapping[str, str]) -> SimulatorProcess:
        """Return when it listens, as ``HOST`` and ``PORT`` say."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "exchange_simulator"),
            env={**environ, "PYTHONUNBUFFERED": "1", "PATH": os.environ["PATH"]},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                line = await process.stdout.readline()
            match = _LISTENING.search(line)
            assert match is not None, line
        except BaseException:  # a Pod that goes while it starts takes its process along
            await cls(process, "").stop()
            raise
        return cls(process, match[1].decode())

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        # The transport's own end, so that no pipe is left to the garbage collector.
        self._process._transport.close()  # type: ignore[attr-defined] # asyncio has no public way


class ProcessContainers:
    """Containers that are processes. Implements Containers.

    ``network``: each listens where its Service's name leads, on the port that its manifest says; without one, on any
    port of 127.0.0.1. ``environ``: what all have beside their own variables. ``starts_at_once``: the others wait.
    """

    def __init__(
        self,
        *,
        network: ServiceNetwork | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
        starts_at_once: int | None = None,
    ) -> None:
        self._network = network
        self._environ = environ
        self._starting: contextlib.AbstractAsyncContextManager[None] = (
            contextlib.nullcontext() if starts_at_once is None else asyncio.Semaphore(starts_at_once)
        )
        self._processes: dict[str, SimulatorProcess] = {}

    def __contains__(self, uid: object) -> bool:
        return uid in self._processes

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run, by their Pods' uids."""
        return {uid: process.pid for uid, process in self._processes.items()}

    def address(self, uid: str) -> str | None:
        process = self._processes.get(uid)
        return None if process is None else process.address

    async def start(self, uid: str, container: Manifest) -> None:
        assert container["args"] == ["exchange-simulator"]
        given = expanded(container["env"])
        assert given["PORT"] == "50055"
        if self._network is None:
            place = {"HOST": "127.0.0.1", "PORT": "0"}
        else:
            place = {"HOST": self._network.address(f"simulator-{given['SIMULATOR_ID']}")}
        async with self._starting:
            self._processes[uid] = await SimulatorProcess.start({**self._environ, **given, **place})

    async def stop(self, uid: str) -> None:
        """Kept until it has ended: of a stop that is cut short ``stop_all`` does the rest."""
        if (process := self._processes.get(uid)) is not None:
            await process.stop()
            self._processes.pop(uid, None)

    async def stop_all(self) -> None:
        await asyncio.gather(*(self.stop(uid) for uid in list(self._processes)))
