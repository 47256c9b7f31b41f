"""The commands as a user types them: output, messages, exit codes (docs/configuration.md#commands)."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest

from session_service import main

KEY = "a-key-of-this-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory and none of our variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("SECRET_KEY", "ALGORITHM", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_USER_CLAIM", "PORT", "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def claims(printed: str, key: str = KEY, **options: str) -> dict[str, object]:
    decoded: dict[str, object] = jwt.decode(printed.strip(), key, algorithms=["HS256"], **options)  # type: ignore[arg-type] # audience and issuer
    return decoded


# --- token --------------------------------------------------------------------------------------------------------


def test_token_is_signed_for_the_user(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY)
    assert main.run(["token", "--user-id", "alice", "--ttl", "120", "--scope", "simulators sandbox"]) == 0
    made = claims(capsys.readouterr().out)
    assert made["sub"] == "alice"
    assert made["scope"] == "simulators sandbox"
    assert made["exp"] - made["iat"] == 120  # type: ignore[operator] # both are numbers


def test_token_has_the_configured_claims_and_lifetime(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(f"SECRET_KEY={KEY}\nACCESS_TOKEN_EXPIRE_MINUTES=2\nJWT_USER_CLAIM=uid\n")
    monkeypatch.setenv("JWT_ISSUER", "us")
    monkeypatch.setenv("JWT_AUDIENCE", "them")
    assert main.run(["token", "--user-id", "alice"]) == 0
    made = claims(capsys.readouterr().out, audience="them", issuer="us")
    assert made["uid"] == "alice"
    assert made["exp"] - made["iat"] == 120  # type: ignore[operator] # both are numbers


def test_token_takes_the_key_of_a_local_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "local.json").write_text(json.dumps({"secret_key": KEY, "pods": []}))
    assert main.run(["token", "--user-id", "alice", "--data-dir", str(run)]) == 0
    assert claims(capsys.readouterr().out)["sub"] == "alice"


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (["--user-id", "alice"], "SECRET_KEY"),
        (["--user-id", "alice", "--data-dir", "nowhere"], "--data-dir"),
        (["--user-id", "alice", "--ttl", "0"], "--ttl"),
        (["--user-id", ""], "--user-id"),
    ],
)
def test_token_refuses_in_one_line(arguments: list[str], variable: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["token", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"session-service: {variable}")
    assert printed.err.count("\n") == 1


def test_token_refuses_an_algorithm_that_the_key_cannot_sign(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY)
    monkeypatch.setenv("ALGORITHM", "RS256")
    assert main.run(["token", "--user-id", "alice"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("session-service: ALGORITHM")
    assert KEY not in error


# --- config -------------------------------------------------------------------------------------------------------


def test_config_shows_sources_and_masks_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY)
    Path(".env").write_text("PORT=9090\nDB_PASSWORD=hidden-too\n")
    assert main.run(["config"]) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    assert lines["PORT"] == ["9090", "(.env)"]
    assert lines["SECRET_KEY"] == ["********", "(environment)"]
    assert lines["DB_PASSWORD"] == ["********", "(.env)"]
    assert lines["DB_PORT"] == ["5432", "(default)"]
    assert KEY not in printed
    assert "hidden-too" not in printed


def test_config_as_a_table_tells_no_value_of_this_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "9090")
    assert main.run(["config", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert "| `PORT` | a port number, 1 to 65535 | 8080 |" in printed
    assert "9090" not in printed


@pytest.mark.parametrize(
    "command",
    [
        ["config"],
        ["serve"],
        ["migrate"],
        ["order-named-sessions"],
        ["backup", "file"],
        ["restore", "file"],
        ["token", "--user-id", "a"],
    ],
)
def test_every_command_refuses_a_wrong_configuration_with_2(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "http")
    assert main.run(command) == 2
    error = capsys.readouterr().err
    assert error == "session-service: PORT must be a port number, 1 to 65535; it was 'http'\n"


def test_named_sessions_are_ordered_in_no_folder_without_a_local_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["order-named-sessions", "--data-dir", "nowhere"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (
        printed.err == "session-service: --data-dir must be the folder of a local run that is up; it was 'nowhere'\n"
    )


def test_serve_refuses_a_weak_secret_in_production(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SIMULATOR_BACKEND", "process")
    monkeypatch.setenv("SECRET_KEY", "weak-and-secret")
    assert main.run(["serve"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("session-service: SECRET_KEY")
    assert "weak-and-secret" not in error


# --- wrong use ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["token"],
        ["token", "--user-id", "a", "--ttl", "soon"],
        ["token", "--user", "a"],
        ["config", "--mark"],
        ["--vers"],
    ],
)
def test_wrong_use_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.run(arguments)
    assert ended.value.code == 2
    assert "usage: session-service" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.run(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("session-service ")
