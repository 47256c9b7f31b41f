import os
import stat
from pathlib import Path

import pytest

from session_service.errors import ConfigurationError
from session_service.local.data_directory import DataDirectory, PodAddress, RunDescription, read_description

DESCRIPTION = RunDescription(
    url="http://127.0.0.1:8080",
    pods=[PodAddress("pod-1", 10, "http://127.0.0.1:8080"), PodAddress("pod-2", 11, "http://127.0.0.1:8081")],
    postgres="postgresql://postgres:p@127.0.0.1:5000/sessiondb",
    redis="redis://:p@127.0.0.1:6000/0",
    secret_key="k",
    supervisor_pid=9,
    sandbox_postgres="postgresql://sessionuser:q@127.0.0.1:5000/sessiondb",
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_run_is_refused_and_told_which_directory_and_process(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigurationError, match=rf"^DATA_DIR .*{tmp_path}/data.* process {os.getpid()}")
    with DataDirectory(tmp_path / "data"), refused:
        DataDirectory(tmp_path / "data").__enter__()
    with DataDirectory(tmp_path / "data"):  # released
        pass


def test_makes_a_private_directory_and_leaves_the_mode_of_an_existing_one(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir(mode=0o755)
    with DataDirectory(tmp_path / "given"), DataDirectory(tmp_path / "deep" / "made"):
        assert mode(tmp_path / "given") == 0o755
        assert mode(tmp_path / "deep" / "made") == 0o700


def test_a_directory_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"^DATA_DIR must be a directory"):
        DataDirectory(tmp_path / "file" / "data").__enter__()


def test_secrets_are_private_and_stay(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as data:
        first = data.secrets()
    with DataDirectory(tmp_path) as data:
        assert data.secrets() == first
    assert mode(tmp_path / "secrets.json") == 0o600
    assert len(first.secret_key) >= 32


def test_secrets_from_before_there_were_sandboxes_get_a_password_for_them_and_keep_the_others(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text('{"postgres_password": "a", "service_password": "b", "secret_key": "c"}')
    with DataDirectory(tmp_path) as data:
        first, second = data.secrets(), data.secrets()
    assert (first.postgres_password, first.service_password, first.secret_key) == ("a", "b", "c")
    assert len(first.sandbox_password) >= 32
    assert second == first
    assert mode(tmp_path / "secrets.json") == 0o600


def test_damaged_secrets_are_not_replaced_in_silence(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with DataDirectory(tmp_path) as data, pytest.raises(ConfigurationError, match=r"secrets\.json"):
        data.secrets()
    assert (tmp_path / "secrets.json").read_text() == "{"


def test_the_description_is_private_whole_and_gone_at_the_end(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as data:
        data.write_description(DESCRIPTION)
        assert mode(tmp_path / "local.json") == 0o600
        assert read_description(tmp_path) == DESCRIPTION
    with pytest.raises(ConfigurationError, match=r"^DATA_DIR "):
        read_description(tmp_path)


def test_a_dead_runs_description_is_removed(tmp_path: Path) -> None:
    (tmp_path / "local.json").write_text("{}")
    with DataDirectory(tmp_path):
        assert not (tmp_path / "local.json").exists()
