"""The wheels and the npm packages that the image's locks name, fetched once by plain pip and plain npm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import browser

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "requirements-image.lock"
PAGE_LOCK = ROOT / "requirements-browser.lock"
FETCH_LIMIT_S = 300.0
NPM_NOT_REACHED = ("ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "network timeout")  # and npm's
NOT_REACHED = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError")  # pip's own words


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel for every line of the image's lock that holds for this interpreter, each hash checked."""
    return _fetch(LOCK, tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def page_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of what the page is built with: Node.js."""
    return _fetch(PAGE_LOCK, tmp_path_factory.mktemp("page-wheels"))


@pytest.fixture(scope="session")
def npm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """npm's cache, with all that the page is built from."""
    node = browser.find_node()
    if node is None:
        pytest.skip("there is no Node.js here to fetch npm's packages with")
    directory = tmp_path_factory.mktemp("npm")
    copied = directory / "browser"
    for name in ("package.json", "package-lock.json", ".npmrc", "library/package.json", "page/package.json"):
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(browser.BROWSER / name, copied / name)
    fetched = subprocess.run(
        [*node.npm, *browser.NPM_CI, "--workspace", browser.PAGE, "--cache", str(directory / "cache")],
        cwd=copied,
        env=node.environ,
        capture_output=True,
        text=True,
        timeout=FETCH_LIMIT_S,
    )
    if fetched.returncode != 0 and any(name in fetched.stderr for name in NPM_NOT_REACHED):
        pytest.skip("npm's registry cannot be reached from here")
    assert fetched.returncode == 0, fetched.stderr
    return directory / "cache"


def _fetch(lock: Path, directory: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    wanted = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(lock), "--dest", str(directory)]
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
