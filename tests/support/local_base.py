"""A base for the image from this machine's own Python: the interpreter, its library, what they are linked to.

It stands in for a `python:…-slim` where no registry can be reached, with as little in it: no shell, no tools.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Wheels are linked to these, whether or not the interpreter is; every slim base has them.
LINKED_BY_WHEELS = ("libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6")
LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "__pycache__", "*.a"
)
LINKED = re.compile(r"(?:=>\s*)?(/\S+) \(0x")


def make_root_directory(root: Path) -> None:
    """Fill ``root`` (absent) with a root file system on which `python` runs, and `python -m venv` works."""
    interpreter = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}").resolve()
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(library, root / library.relative_to("/"), symlinks=True, ignore=LEFT_OUT)
    for file in {interpreter, *_linked_to(interpreter, *library.glob("lib-dynload/*.so")), *_wheels_link_to()}:
        _copy(file, root)
    for bundled in Path("/usr/share/python-wheels").glob("*.whl"):  # Debian's ensurepip takes pip from there
        _copy(bundled, root)
    commands = root / "usr" / "local" / "bin"
    commands.mkdir(parents=True, exist_ok=True)
    (commands / "python").symlink_to(interpreter)
    (root / "tmp").mkdir(mode=0o1777)
    for mount_point in ("dev", "etc", "proc"):
        (root / mount_point).mkdir(exist_ok=True)


def _linked_to(*binaries: Path) -> set[Path]:
    listed = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=True).stdout
    return {Path(path) for path in LINKED.findall(listed)}


def _wheels_link_to() -> set[Path]:
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"^\s+(\S+) \(libc6,.*\) => (\S+)$", cache, re.MULTILINE))
    return {Path(found[name]) for name in LINKED_BY_WHEELS if name in found}


def _copy(file: Path, root: Path) -> None:
    """Copy the file behind ``file`` to the same path under ``root``."""
    target = root / file.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file.resolve(), target)
