import os
from pathlib import Path

from session_service.simulators import runner_log
from session_service.simulators.runner_log import SimulatorLog, prune


def test_is_bounded_in_size(tmp_path: Path) -> None:
    log = SimulatorLog(tmp_path, "sim", secret="")
    line = b"x" * 1023 + b"\n"
    for _ in range(3 * runner_log.LIMIT_BYTES // len(line)):
        log.write(line, telling=False)
    log.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"sim.log", "sim.log.1"}
    assert all(size <= runner_log.LIMIT_BYTES for size in sizes.values())


def test_a_change_of_files_that_fails_loses_lines_and_stops_nobody(tmp_path: Path) -> None:
    directory, away = tmp_path / "logs", tmp_path / "away"
    directory.mkdir()
    log = SimulatorLog(directory, "sim", secret="")
    log.write(b"x" * runner_log.LIMIT_BYTES, telling=False)
    directory.rename(away)
    for _ in range(3):
        log.write(b"lost\n", telling=False)
    away.rename(directory)
    log.write(b"kept\n", telling=False)
    log.close()
    assert (directory / "sim.log").read_bytes() == b"kept\n"


def test_tells_the_last_telling_lines_without_the_secret(tmp_path: Path) -> None:
    log = SimulatorLog(tmp_path, "sim", secret="hunter2")
    log.write(b"not told\n", telling=False)
    for number in range(10):
        log.write(b"line %d hunter2\n" % number, telling=True)
    log.close()
    assert log.tail() == " | ".join(f"line {number} ***" for number in range(5, 10))


def test_keeps_the_newest_files(tmp_path: Path) -> None:
    for number in range(runner_log.KEPT_FILES + 5):
        path = tmp_path / f"{number}.log"
        path.touch()
        os.utime(path, (number, number))
    prune(tmp_path)
    kept = {int(path.stem) for path in tmp_path.iterdir()}
    assert kept == set(range(5, runner_log.KEPT_FILES + 5))
