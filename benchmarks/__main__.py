"""``make bench``: every script of this folder, one after the other, and a table of what each measured.

A script prints one JSON object as its last line: ``{"benchmark", "machine", "python", "commit", "figures": {…}}``.
They are processes of their own: what one leaves behind must not be measured in the next.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SUPPORT = {"__main__", "support", "local_run", "chromium_trace"}
LIMIT_S = 900


def main() -> int:
    """Run the scripts named on the command line, or all. Returns 1 where one failed."""
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SUPPORT)
    results_directory = HERE.parent / "bench-results"
    results_directory.mkdir(exist_ok=True)
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        run = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        lines = run.stdout.strip().splitlines()
        if run.returncode != 0 or not lines:
            failed.append(name)
            print(f"   failed with exit code {run.returncode}", flush=True)
            continue
        result = json.loads(lines[-1])
        (results_directory / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        for figure, value in result["figures"].items():
            print(f"   {figure}: {value}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
