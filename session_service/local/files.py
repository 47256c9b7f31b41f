"""Small files of a run: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
LOG_LIMIT_BYTES = 10 * 1024 * 1024  # a log longer than this moves aside


def replace_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` under ``path`` with mode 0600: a reader sees the old file or the new one, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp: mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def open_log(path: Path) -> int:
    """A descriptor that appends to ``path``; a log over LOG_LIMIT_BYTES first becomes ``path.1``."""
    try:
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)


def bound_log(path: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> bool:
    """Move what is in a log over ``limit_bytes`` to ``path.1``, while its process goes on writing; whether it did.

    The process keeps its descriptor, which appends: so the file is emptied in place. Lines that are written between
    the copy and that are lost.
    """
    if size_bytes(path) <= limit_bytes:
        return False
    older = path.with_name(path.name + ".1")
    shutil.copyfile(path, older)
    older.chmod(PRIVATE_FILE)
    os.truncate(path, 0)
    return True


def last_lines(path: Path, *, since_bytes: int = 0, count: int = 15) -> list[str]:
    """The last ``count`` lines written behind ``since_bytes``, looking at no more than 64 KiB."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(min(since_bytes, end), end - 65536))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def size_bytes(path: Path) -> int:
    """How long the file is; 0 when it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
