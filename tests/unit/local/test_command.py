"""``session-service local`` as a user types it (docs/local-run.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_service import main
from session_service.local.command import add_command


def test_an_empty_data_directory_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main.run(["local", "--data-dir", ""], add_command)
    assert ended.value.code == 2
    assert "argument --data-dir: must be a directory; it was empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
