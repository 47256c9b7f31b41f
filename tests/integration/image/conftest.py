"""The wheels that the image's lock names, fetched once by plain pip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "requirements-image.lock"
FETCH_LIMIT_S = 300.0
NOT_REACHED = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError")  # pip's own words


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a wheel for every line of the lock that holds for this interpreter, each hash checked."""
    directory = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    wanted = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(LOCK), "--dest", str(directory)]
    fetched = subprocess.run(
        [*pip, *wanted],
        capture_output=True,
        text=True,
        timeout=FETCH_LIMIT_S,
    )
    if fetched.returncode != 0 and any(name in fetched.stderr for name in NOT_REACHED):
        pytest.skip("no package index can be reached from here")
    assert fetched.returncode == 0, fetched.stderr
    return directory
