"""Child processes that cannot outlive this one, each in a session of its own (a terminal's Ctrl-C is not theirs)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from session_service.aiokit import child_launcher

LAUNCHER = child_launcher.__file__
REAP_LIMIT_S = 5.0  # after SIGKILL; only a process in uninterruptible sleep needs longer


# Where the dynamic linker finds the interpreter's own library, on machines that keep it in an unusual place.
LIBRARY_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def with_libraries(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` and what this interpreter needs to start once more: even the launcher of another program does."""
    return {**{name: os.environ[name] for name in LIBRARY_VARIABLES if name in os.environ}, **environ}


class Account(msgspec.Struct, frozen=True):
    """The user that a child of root runs as; it needs no entry in the user database."""

    uid: int
    gid: int


def launcher_command(
    command: Sequence[str],
    *,
    death_signal: signal.Signals = signal.SIGKILL,
    account: Account | None = None,
) -> list[str]:
    """The command line that runs ``command`` tied to this process. To be started from the main thread:
    the death signal is sent when the *thread* that forked ends (prctl(2)).
    """
    line = [
        sys.executable,
        "-I",
        "-S",
        LAUNCHER,
        "--parent",
        str(os.getpid()),
        "--death-signal",
        str(int(death_signal)),
    ]
    if account is not None:
        line += ["--user", f"{account.uid}:{account.gid}"]
    return [*line, "--", *command]


async def can_execute(program: Path, account: Account) -> bool:
    """Whether ``account`` reaches and may run ``program``. Asked as that user, since modes alone do not tell (ACLs,
    mounts without exec).
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", LAUNCHER, "--parent", str(os.getpid()),
        "--user", f"{account.uid}:{account.gid}", "--check", "--", str(program),
        stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    return await process.wait() == 0


class ChildProcess:
    """A running child: its exit is awaited, its end is bounded.

    ``stdout`` and ``stderr`` take what ``asyncio.create_subprocess_exec`` takes.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        cwd: Path | None = None,
        stdin: int | IO[bytes] = asyncio.subprocess.DEVNULL,
        stdout: int | IO[bytes] = asyncio.subprocess.DEVNULL,
        stderr: int | IO[bytes] = asyncio.subprocess.DEVNULL,
        death_signal: signal.Signals = signal.SIGKILL,
        account: Account | None = None,
    ) -> ChildProcess:
        """Start it. Raises OSError when it cannot be started; a program that is not there ends with code 127."""
        process = await asyncio.create_subprocess_exec(
            *launcher_command(command, death_signal=death_signal, account=account),
            env=with_libraries(environ),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: ended by that signal."""
        return self._process.returncode

    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        return self._process.stdout

    @property
    def stderr(self) -> asyncio.StreamReader | None:
        return self._process.stderr

    async def wait(self) -> int:
        return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                return

    async def stop(self, *steps: tuple[signal.Signals, float]) -> int:
        """Send each signal and wait its seconds for the end; SIGKILL after the last. Returns the exit code.

        Cancelled, it leaves the process as it is.
        """
        for number, limit_s in (*steps, (signal.SIGKILL, REAP_LIMIT_S)):
            self.send_signal(number)
            try:
                return await asyncio.wait_for(self._process.wait(), limit_s)
            except TimeoutError:
                continue
        raise TimeoutError(f"process {self.pid} did not end within {REAP_LIMIT_S:g} s of SIGKILL")


def ended_because(returncode: int) -> str:
    """``exit code 3`` or ``SIGKILL``, for people."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
