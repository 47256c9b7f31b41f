"""The golden frames of the WebSocket protocol, which the clients' tests read too: tests/contract/golden_frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "contract" / "golden_frames"

Case = dict[str, Any]


def cases(file_name: str) -> dict[str, Case]:
    """The cases of one file by their names, which are unique in it."""
    listed: list[Case] = json.loads((DIRECTORY / f"{file_name}.json").read_text(encoding="utf-8"))
    named = {case["name"]: case for case in listed}
    assert len(named) == len(listed), f"{file_name}: a name is there twice"
    return named


def payload(case: Case) -> str:
    """A message as text: ``text`` as it stands, else ``frame`` as JSON."""
    text: str = case["text"] if "text" in case else json.dumps(case["frame"], ensure_ascii=False)
    return text
