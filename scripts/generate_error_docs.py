"""Write docs/errors.md from the table that answers are made with; a test keeps the file true."""

from __future__ import annotations

from pathlib import Path

from session_service.api.errors import markdown_page

if __name__ == "__main__":
    path = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
    path.write_text(markdown_page(), encoding="utf-8")
    print(f"wrote {path}")
