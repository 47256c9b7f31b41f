"""Children end with their parent, whatever ends it."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from session_service.aiokit import child_launcher, process_table
from session_service.aiokit.child_process import Account, ChildProcess, ended_because

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)


async def stubborn() -> ChildProcess:
    """A child that ignores SIGTERM and is up."""
    child = await ChildProcess.start(
        [sys.executable, "-c", STUBBORN], environ=os.environ, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"up\n"
    return child


async def test_a_child_of_a_killed_parent_ends() -> None:
    program = textwrap.dedent(
        """
        import asyncio, os, sys
        from session_service.aiokit.child_process import ChildProcess
        async def main():
            child = await ChildProcess.start(["sleep", "60"], environ=os.environ)
            while os.readlink(f"/proc/{child.pid}/exe").rpartition("/")[2] not in ("sleep", "coreutils", "busybox"):
                await asyncio.sleep(0.01)
            print(child.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    child.wait(timeout=20)


async def test_a_parent_that_died_before_the_launcher_began_is_noticed() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    launcher = [sys.executable, "-I", "-S", child_launcher.__file__, "--parent", str(ended.pid), "--", "sleep", "60"]
    assert subprocess.run(launcher, timeout=30).returncode == 1


async def test_stands_in_a_session_of_its_own() -> None:
    child = await stubborn()
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        await child.stop()


async def test_a_child_that_ignores_the_signal_is_killed_after_its_limit() -> None:
    child = await stubborn()
    started_s = time.monotonic()
    assert await child.stop((signal.SIGTERM, 0.2)) == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - started_s < 20  # it would sleep for 60 s
    assert process_table.start_time(child.pid) is None
    assert await child.stop() == -signal.SIGKILL  # again: nothing happens


async def test_a_program_that_is_not_there_says_so() -> None:
    child = await ChildProcess.start(["/no/such/program"], environ=os.environ, stderr=asyncio.subprocess.PIPE)
    assert child.stderr is not None
    assert b"/no/such/program" in await child.stderr.read()
    assert ended_because(await child.wait()) == "exit code 127"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_root_becomes_another_user_for_good_and_still_ends_with_its_parent() -> None:
    program = textwrap.dedent(
        """
        import ctypes, os
        signal = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(signal), 0, 0, 0)  # PR_GET_PDEATHSIG
        print(os.getresuid(), os.getresgid(), os.getgroups(), signal.value)
        """
    )
    child = await ChildProcess.start(
        ["/usr/bin/env", "python3", "-c", program],
        environ={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        death_signal=signal.SIGQUIT,
        account=Account(12345, 54321),
    )
    assert child.stdout is not None
    said = await child.stdout.read()
    assert await child.wait() == 0
    assert said.decode().split("\n")[0] == f"{(12345,) * 3} {(54321,) * 3} [] {int(signal.SIGQUIT)}"
