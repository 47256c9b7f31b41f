"""What requirements-image.lock names is enough to run every command of the image, and holds no embedded server."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import venv
from pathlib import Path

import pytest

from tests.integration.image.conftest import LOCK, ROOT

pytestmark = [pytest.mark.image, pytest.mark.slow]

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "exchange_api", "exchange_simulator", "sql", "session_service")
LIST_MIGRATIONS = """
from importlib.resources import files
print(*files("session_service").joinpath("sql/migrations").iterdir())
"""
INSTALL_LIMIT_S = 300.0
COMMAND_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a venv made as the Dockerfile makes it, from a copy of what it copies."""
    directory = tmp_path_factory.mktemp("image")
    venv.create(directory / "venv", with_pip=True)
    programs = directory / "venv" / "bin"
    source = directory / "source"
    source.mkdir()
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "exchange_api",
        "exchange_simulator",
        "sql",
        "session_service",
    ):
        subprocess.run(["cp", "-a", str(ROOT / name), str(source)], check=True)
    pip = [
        str(programs / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-compile",
    ]
    for arguments in (
        ["--find-links", str(wheels), "--require-hashes", "--only-binary", ":all:", "--requirement", str(LOCK)],
        ["--no-deps", "--no-build-isolation", str(source)],
    ):
        subprocess.run([*pip, *arguments], check=True, timeout=INSTALL_LIMIT_S, capture_output=True)
    return programs


def run(programs: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(programs / command[0]), *command[1:]],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environ},
        cwd=programs.parent,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
    )


def test_the_configuration_is_printed(installed: Path) -> None:
    printed = run(installed, "session-service", "config", POD_NAME="pod-7")
    assert printed.returncode == 0, printed.stderr
    assert "POD_NAME" in printed.stdout
    assert "pod-7  (environment)" in printed.stdout


def test_every_module_that_a_pod_needs_is_there(installed: Path) -> None:
    imported = run(installed, "python", "-c", "import session_service.server, kubernetes_asyncio.client")
    assert imported.returncode == 0, imported.stderr


def test_migrations_came_along(installed: Path) -> None:
    refused = run(installed, "session-service", "migrate", DB_HOST="127.0.0.1", DB_PORT="1")
    assert refused.returncode == 1
    assert "the database cannot be migrated" in refused.stderr
    listed = run(installed, "python", "-c", LIST_MIGRATIONS)
    assert "0001_pre_live_sessions.sql" in listed.stdout


def test_no_embedded_server_came_along(installed: Path) -> None:
    listed = run(installed, "python", "-m", "pip", "list", "--format=freeze").stdout.lower()
    assert "aiohttp==" in listed
    assert "embedded" not in listed
    assert "valkey" not in listed


def test_a_simulator_runs_and_ends_when_asked(installed: Path) -> None:
    simulator = subprocess.Popen(
        [str(installed / "exchange-simulator")],
        env={"PORT": "0", "HOST": "127.0.0.1", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert simulator.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(simulator.stdout, selectors.EVENT_READ)
            assert selector.select(COMMAND_LIMIT_S), "it does not listen"
        assert simulator.stdout.readline().startswith("exchange-simulator listening on 127.0.0.1:")
        simulator.send_signal(signal.SIGTERM)
        assert simulator.wait(COMMAND_LIMIT_S) == 0
    finally:
        simulator.kill()
        simulator.wait()
        simulator.stdout.close() if simulator.stdout else None
