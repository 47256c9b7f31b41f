import os
import stat
from pathlib import Path

import pytest

from session_service.local import files


def test_replacing_is_private_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    target.chmod(0o644)
    files.replace_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_replacement_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError):  # noqa: PT011 - which error depends on the platform
        files.replace_atomically(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_a_long_log_moves_aside(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    os.close(files.open_log(log))
    os.truncate(log, files.LOG_LIMIT_BYTES + 1)
    os.close(files.open_log(log))
    assert log.stat().st_size == 0
    assert (tmp_path / "logs" / "a.log.1").stat().st_size == files.LOG_LIMIT_BYTES + 1


def test_last_lines_begin_where_told(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("former run\n")
    before_bytes = files.size_bytes(log)
    with log.open("a") as file:
        file.write("one\n\ntwo\nthree\n")
    assert files.last_lines(log, since_bytes=before_bytes) == ["one", "two", "three"]
    assert files.last_lines(log, count=2) == ["two", "three"]
    assert files.last_lines(tmp_path / "none") == []


def test_a_long_log_moves_aside_while_its_process_writes_on(tmp_path: Path) -> None:
    path = tmp_path / "pod.log"
    descriptor = files.open_log(path)
    try:
        os.write(descriptor, b"old\n" * 10)
        assert not files.bound_log(path, limit_bytes=40)
        os.write(descriptor, b"old\n")
        assert files.bound_log(path, limit_bytes=40)
        os.write(descriptor, b"new\n")
    finally:
        os.close(descriptor)
    assert path.read_bytes() == b"new\n"
    older = tmp_path / "pod.log.1"
    assert (older.read_bytes(), older.stat().st_mode & 0o777) == (b"old\n" * 11, 0o600)
