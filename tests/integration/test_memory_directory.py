"""What tests keep in memory is nobody else's, and does not stay there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import memory_directory
from tests.support.memory_directory import MemoryDirectory

ROOT = Path(__file__).parents[2]
MAKES_ONE_AND_WAITS = """
import sys
from pathlib import Path
from tests.support.memory_directory import MemoryDirectory
made = MemoryDirectory(Path("unused"), memory=Path(sys.argv[1]))
(made.path / "file").touch()
print(made.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory_directory, "ROOM_BYTES", 0)
    place = tmp_path / "memory"
    place.mkdir()
    return place


def test_each_is_empty_and_gone_at_its_end(memory: Path, tmp_path: Path) -> None:
    first, second = (MemoryDirectory(tmp_path / "fallback", memory=memory) for _ in range(2))
    (first.path / "file").touch()
    assert list(second.path.iterdir()) == []
    first.remove()
    assert list(memory.iterdir()) == [second.path]
    second.remove()
    assert list(memory.iterdir()) == []


def test_one_of_a_process_that_was_killed_goes_and_that_of_a_living_one_stays(memory: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKES_ONE_AND_WAITS, str(memory)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            other = Path(process.stdout.readline().strip())
            while_it_lives = MemoryDirectory(tmp_path / "fallback", memory=memory)
            assert set(memory.iterdir()) == {other, while_it_lives.path}
        finally:
            process.kill()
    afterwards = MemoryDirectory(tmp_path / "fallback", memory=memory)
    assert set(memory.iterdir()) == {while_it_lives.path, afterwards.path}
    while_it_lives.remove()
    afterwards.remove()


def test_without_room_it_is_where_the_caller_says_and_stays(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_directory, "ROOM_BYTES", 1 << 62)
    made = MemoryDirectory(tmp_path / "fallback", memory=memory)
    made.remove()
    assert made.path == tmp_path / "fallback"
    assert made.path.is_dir()
    assert MemoryDirectory(tmp_path / "fallback", memory=tmp_path / "absent").path == made.path
