"""What the documents say of the code is true: the generated table, links, error codes, paths, metrics, statements."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from session_service import main
from session_service.database.sql_files import load_queries, load_schema
from session_service.domain.session import EndReason, SessionStatus
from session_service.domain.simulator import SimulatorStatus, SimulatorTarget
from session_service.errors import ErrorCode
from session_service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", read(path)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_variables_is_the_generated_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["config", "--markdown"]) == 0
    generated = capsys.readouterr().out.strip()
    assert generated.count("\n") > 40
    assert generated in read(DOCS / "configuration.md"), "run: session-service config --markdown"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_resolves(document: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", read(document))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in LINK.findall(read(DOCS / "README.md"))}
    assert {path for path in DOCS.rglob("*.md") if path != DOCS / "README.md"} <= linked


def test_every_error_code_is_documented() -> None:
    documented = set(CODE.findall(read(DOCS / "errors.md")))
    assert {code.value for code in ErrorCode} <= documented


def test_every_path_that_the_architecture_names_exists() -> None:
    named = [text for text in CODE.findall(read(ROOT / "ARCHITECTURE.md")) if is_path(text)]
    assert len(named) > 20
    missing = [
        text for text in named if not (ROOT / text).exists() and not (ROOT / "session_service" / text).exists()
    ]
    assert missing == []


def test_the_architecture_names_every_background_loop() -> None:
    source = read(ROOT / "session_service" / "server.py")
    rows = re.search(r"^\| loop \|.*?\n\n", read(ROOT / "ARCHITECTURE.md"), re.MULTILINE | re.DOTALL)
    assert rows is not None
    named = [name for row in rows[0].strip().splitlines() for name in CODE.findall(row.split("|")[1])]
    assert named
    assert set(named) == set(re.findall(r'guard\.(?:every|spawn)\("(\w+)"', source))


def test_every_page_that_the_code_names_exists() -> None:
    code = [path for top in ("session_service", "exchange_simulator", "sql") for path in (ROOT / top).rglob("*.*")]
    named = {
        name
        for path in [*code, ROOT / "Makefile"]
        if path.is_file() and path.suffix in {".py", ".sql", ""}
        for name in re.findall(r"\bdocs/[\w-]+\.md\b", read(path))
    }
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_state_is_in_the_lifecycle() -> None:
    page = set(CODE.findall(read(DOCS / "lifecycle.md")))
    for enum in (SessionStatus, SimulatorStatus, SimulatorTarget, EndReason):
        assert {member.value for member in enum} <= page


def test_the_edges_of_the_lifecycle_name_what_is_there() -> None:
    edges = "\n".join(re.findall(r"-->.*?: (.*)", read(DOCS / "lifecycle.md")))
    # `schema.function`, or the name of a query; the short forms in a list stand for the first one's noun.
    named = set(re.findall(r"\b(?:sessions?|simulators?)\.[a-z_]+", edges))
    functions = set(re.findall(r"CREATE FUNCTION ([a-z_.]+)", load_schema()))
    assert len(named) > 10
    assert named <= functions | set(load_queries())


def test_every_metric_is_in_the_operations_page() -> None:
    page = read(DOCS / "operations.md")
    families = [family.name for family in Metrics().registry.collect() if family.name.startswith("session_")]
    assert len(families) > 20
    # A counter's family has no suffix; its samples have.
    assert [name for name in families if f"`{name}" not in page] == []


def is_path(text: str) -> bool:
    """Whether a piece of code is written as a path: a folder with its slash, or a file with its suffix."""
    return re.fullmatch(r"(?:[\w.-]+/)+|(?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|sql|proto)|\.ci/run", text) is not None
