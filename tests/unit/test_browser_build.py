"""Which Node.js builds the page, and when what browser/ needs is installed anew."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import browser

LOCK = {
    "packages": {
        "": {"name": "root"},
        "page": {"version": "1.0.0"},
        "node_modules/vite": {"version": "8.3.8"},
        "node_modules/uplot": {"version": "1.6.32"},
        "node_modules/linter": {"version": "2.0.0"},
        "node_modules/linter-for-another-system": {"version": "2.0.0", "optional": True},
    }
}
MANIFEST = {"dependencies": {"uplot": "1.6.32"}, "devDependencies": {"vite": "8.3.8"}}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v20.19.0\n", True),
        ("v20.18.9", False),
        ("v18.20.8", False),
        ("v21.7.3", False),
        ("v22.11.0", False),
        ("v22.12.0", True),
        ("v23.0.0", True),
        ("v24.19.0", True),
        ("v25.0.0-nightly", True),
        ("", False),
        ("node: not found", False),
    ],
)
def test_the_lines_of_node_that_vite_works_with(version: str, expected: bool) -> None:
    assert browser.is_new_enough(version) is expected


def test_the_lock_is_of_these_manifests_and_names_no_address() -> None:
    locked = json.loads((browser.BROWSER / "package-lock.json").read_text())["packages"]
    for folder in ("", "library", "page"):
        manifest = json.loads((browser.BROWSER / folder / "package.json").read_text())
        shared = locked[folder].keys() & manifest.keys() | {"dependencies", "devDependencies"}
        assert {key: locked[folder].get(key) for key in shared} == {key: manifest.get(key) for key in shared}, folder
    assert not [path for path, package in locked.items() if "resolved" in package and not package.get("link")]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser/ with a lock, in which nothing is installed."""
    (tmp_path / "page").mkdir()
    (tmp_path / "package-lock.json").write_text(json.dumps(LOCK))
    (tmp_path / "page" / "package.json").write_text(json.dumps(MANIFEST))
    monkeypatch.setattr(browser, "BROWSER", tmp_path)
    return tmp_path


def installed(workspace: Path, **versions: str) -> None:
    (workspace / "node_modules").mkdir(exist_ok=True)
    packages = {f"node_modules/{name}": {"version": version} for name, version in versions.items()}
    (workspace / "node_modules" / ".package-lock.json").write_text(json.dumps({"packages": packages}))


def test_nothing_is_installed_again_that_is_there_as_the_lock_names_it(workspace: Path) -> None:
    assert len(browser.missing(page_only=True)) == 2
    installed(workspace, vite="8.3.8", uplot="1.6.32")
    assert browser.missing(page_only=True) == []
    assert browser.missing(page_only=False) == ["node_modules/linter"]
    installed(workspace, vite="8.3.8", uplot="1.6.32", linter="2.0.0")
    assert browser.missing(page_only=False) == []
    installed(workspace, vite="8.3.7", uplot="1.6.32", linter="2.0.0")
    assert browser.missing(page_only=True) == ["node_modules/vite"]


def test_without_node_tests_are_skipped_and_nothing_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(browser, "find_node", lambda: None)
    assert browser.main(["find"]) == 3
    assert browser.main(["test"]) == 0
    assert "its tests are skipped: there is no Node.js" in capsys.readouterr().err
    assert browser.main(["build"]) == 1
    assert "the page is not built: there is no Node.js" in capsys.readouterr().err


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of an earlier build, in a folder of its own."""
    page = tmp_path / "api" / "page"
    page.mkdir(parents=True)
    (page / "index.html").write_text("of an earlier build")
    monkeypatch.setattr(browser, "BUILT", page)
    return page


def test_a_build_that_fails_leaves_the_page_as_it_was(built: Path) -> None:
    fails_at_once = browser.Node("false", ("false",), {})
    assert browser.build(fails_at_once) == 1
    assert [path.name for path in built.parent.iterdir()] == ["page"]
    assert (built / "index.html").read_text() == "of an earlier build"


def test_a_page_is_never_there_in_part(built: Path) -> None:
    """Pods that start meanwhile read the one or the other."""
    node = browser.find_node()
    if node is None or browser.missing(page_only=True):
        pytest.skip("what builds the page is not installed: make browser")
    started = subprocess.Popen([sys.executable, "-c", BUILD, str(built), node.program])
    seen = set()
    while started.poll() is None:
        seen.add(forms_of_index(built))
        time.sleep(0.001)
    assert started.wait() == 0
    assert seen <= {(), ("index.html",), FORMS}  # nothing: between two names, for the blink of an eye
    assert forms_of_index(built) == FORMS
    assert (built / "index.html").read_text() != "of an earlier build"
    assert [path.name for path in built.parent.iterdir()] == ["page"]


FORMS = ("index.html", "index.html.br", "index.html.gz")
BUILD = """
import os, sys, pathlib
from scripts import browser
browser.BUILT = pathlib.Path(sys.argv[1])
sys.exit(browser.build(browser.Node(sys.argv[2], (), dict(os.environ))))
"""


def forms_of_index(page: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(path.name for path in page.iterdir() if path.name.startswith("index.html")))
    except FileNotFoundError:
        return ()


def test_what_is_compressed_is_what_was_built(tmp_path: Path) -> None:
    node = browser.find_node()
    if node is None:
        pytest.skip("there is no Node.js here")
    text = "the same words, over and over; " * 50
    (tmp_path / "assets").mkdir()
    for name in ("index.html", "assets/main-1a2b.js", "assets/photo-3c4d.png"):
        (tmp_path / name).write_text(text)
    (tmp_path / "assets" / "small-5e6f.css").write_text("a{}")
    assert (
        browser.run(node, tmp_path, node.program, str(browser.ROOT / "browser" / "compress.mjs"), str(tmp_path)) == 0
    )
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.suffix in {".br", ".gz"})
    assert made == ["assets/main-1a2b.js.br", "assets/main-1a2b.js.gz", "index.html.br", "index.html.gz"]
    for name in ("index.html", "assets/main-1a2b.js"):
        assert gzip.decompress((tmp_path / f"{name}.gz").read_bytes()).decode() == text
        decoded = subprocess.run(
            [node.program, "-p", f"zlib.brotliDecompressSync(fs.readFileSync({str(tmp_path / name) + '.br'!r}))+''"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert decoded.stdout.rstrip("\n") == text
