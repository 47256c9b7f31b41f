"""Figures that a fault test found, printed so that a run's report can be copied into docs/operations.md."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Measured:
    """``row`` prints one line; with FAULT_REPORT=file it is appended there too, as JSON."""

    def row(self, fault: str, **figures: float) -> None:
        line = json.dumps({"fault": fault, **figures})
        print(line)  # noqa: T201 - pytest shows it with -s, and when the test fails
        if path := os.environ.get("FAULT_REPORT"):
            with Path(path).open("a", encoding="utf-8") as report:
                report.write(line + "\n")
