"""What a trial does and finds, written down while it runs: a line each, with the seconds since its beginning."""

from __future__ import annotations

import re
import time
from pathlib import Path

_BLOCK = re.compile(r"(?<=^```text\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


class Transcript:
    """Prints each line as it is said, and keeps it. ``failures``: what was not as required."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._lines: list[str] = []
        self._began_s = time.monotonic()

    def does(self, text: str) -> None:
        """A step begins, or something has come about."""
        self._line(f"{time.monotonic() - self._began_s:6.1f} s  {text}")

    def finds(self, what: str, found: object, *, required: object = None) -> None:
        """A figure. Where one is ``required``, any other is a failure."""
        text = f"{'':10}{what}: {found}"
        if required is not None and found != required:
            text += f"  <-- NOT {required}"
            self.failures.append(f"{what}: {found}, not {required}")
        self._line(text)

    def write_into(self, page: Path) -> None:
        """Put it in the place of the page's only block of text."""
        content = page.read_text(encoding="utf-8")
        written, blocks = _BLOCK.subn(lambda _old: "".join(f"{line}\n" for line in self._lines), content)
        if blocks != 1:
            raise ValueError(f"{page.name} has {blocks} blocks of text, not one")
        page.write_text(written, encoding="utf-8")

    def _line(self, text: str) -> None:
        self._lines.append(text)
        print(text, flush=True)
