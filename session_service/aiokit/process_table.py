"""What the operating system knows about processes: identity, parentage, working directory.

On Linux from /proc (proc(5)); elsewhere from ``ps``, which gives identity and parentage only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

LINUX: bool = sys.platform == "linux"  # annotated: checked at run time only
PROC = Path("/proc")
_STATE, _PARENT, _START_TIME = 0, 1, 19  # fields of /proc/PID/stat behind the name, counted from 0


def _stat(pid: int) -> list[str] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold blanks and parentheses itself.
    return text.rpartition(")")[2].split()


def _ps(columns: str, *selection: str) -> list[str]:
    output = subprocess.run(["ps", "-o", columns, *selection], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return output.stdout.splitlines()


def start_time(pid: int) -> str | None:
    """A text that differs between two processes that had the same id; None when no such process runs.

    A zombie does not run.
    """
    if LINUX:
        fields = _stat(pid)
        return fields[_START_TIME] if fields is not None and fields[_STATE] not in "ZX" else None
    lines = _ps("lstart=", "-p", str(pid))
    return lines[0].strip().replace(" ", "_") if lines else None


def _parents() -> dict[int, int]:
    """Every process id with its parent's."""
    if LINUX:
        found = {}
        for entry in PROC.iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
                found[int(entry.name)] = int(fields[_PARENT])
        return found
    return {int(pid): int(parent) for pid, parent in (line.split() for line in _ps("pid=,ppid=", "-A"))}


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, nearest first, without itself."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found += level
    return found


def working_in(directory: Path) -> list[int]:
    """The processes whose working directory this is; Linux only, elsewhere none are found."""
    if not LINUX:
        return []
    wanted = directory.stat()
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "cwd").stat()
        except OSError:  # gone meanwhile, or another user's
            continue
        if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry.name))
    return found


def kill(pid: int) -> None:
    """SIGKILL; nothing happens when the process is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
