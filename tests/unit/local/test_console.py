import io
from pathlib import Path

from session_service.local.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_is_plain_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.step("one")
    console.attention("two")
    assert stream.getvalue() == "local: one\nlocal: two\n"


def test_shows_the_time_on_a_terminal() -> None:
    stream = Terminal()
    Console(stream).step("one")
    assert "✓" in stream.getvalue()
    assert " s)" in stream.getvalue()


def welcome(tmp_path: Path, *, page: bool) -> str:
    stream = io.StringIO()
    Console(stream).welcome(
        url="http://127.0.0.1:8080",
        page=page,
        data_dir=tmp_path,
        description=tmp_path / "local.json",
        logs=tmp_path / "logs",
    )
    return stream.getvalue()


def test_says_how_to_try_it_and_where_things_are(tmp_path: Path) -> None:
    said = welcome(tmp_path, page=True)
    assert "Open http://127.0.0.1:8080 in a browser\n" in said
    assert f"session-service token --user-id demo --data-dir {tmp_path}" in said
    assert "http://127.0.0.1:8080/api/sessions" in said
    assert "ws://127.0.0.1:8080/ws?deviceId=laptop" in said
    assert str(tmp_path / "local.json") in said


def test_there_is_nothing_to_open_without_a_page(tmp_path: Path) -> None:
    assert "browser" not in welcome(tmp_path, page=False)


def test_a_closed_terminal_is_no_error() -> None:
    stream = io.StringIO()
    console = Console(stream)
    stream.close()
    console.step("one")
