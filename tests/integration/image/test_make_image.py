"""`make image` takes the first builder that works, tells it what the Dockerfile asks for, or says that none does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from session_service import __version__
from tests.integration.image.conftest import ROOT

TOOLS = ("make", "sh", "sed", "git")
LIMIT_S = 60.0


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with what the Makefile itself needs, and no builder."""
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    return tmp_path


def builder(programs: Path, name: str, info_code: int) -> None:
    """A builder whose `info` ends with this code, and which prints what it is asked to build, a line per argument."""
    script = programs / name
    script.write_text(f'#!/bin/sh\n[ "$1" = info ] && exit {info_code}\nprintf "%s\\n" {name} "$@"\n')
    script.chmod(0o755)


def make_image(programs: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    # A make that runs this test must not hand its own variables down.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--silent", "image", "PYTHON=python3", *variables],
        env={**kept, "PATH": str(programs)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def test_a_builder_that_does_not_work_is_passed_over(programs: Path) -> None:
    builder(programs, "docker", info_code=1)
    builder(programs, "podman", info_code=0)
    made = make_image(programs)
    assert made.returncode == 0, made.stderr
    name, verb, *arguments = made.stdout.splitlines()
    assert (name, verb, arguments[-1]) == ("podman", "build", ".")
    assert f"session-service:{__version__}" in arguments
    assert f"VERSION={__version__}" in arguments
    assert not [each for each in arguments if each.startswith("PYTHON_IMAGE")]


def test_the_image_and_its_base_can_be_named(programs: Path) -> None:
    builder(programs, "docker", info_code=0)
    made = make_image(programs, "IMAGE=registry.example.com:5000/sessions:7", "PYTHON_IMAGE=base:1")
    assert made.returncode == 0, made.stderr
    assert {"registry.example.com:5000/sessions:7", "VERSION=7", "PYTHON_IMAGE=base:1"} <= set(
        made.stdout.splitlines()
    )


def test_without_a_builder_it_says_so(programs: Path) -> None:
    made = make_image(programs)
    assert made.returncode != 0
    assert "none of docker, podman and buildah works here" in made.stderr
