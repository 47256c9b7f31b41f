"""The README's own lines, as they stand there: a new user who pastes them gets what it says.

Only the port and the user differ. The lines run in a directory whose ``.venv`` is this interpreter's and whose
``.local`` is the run's data directory, as in a checkout after ``make run``.
"""

from __future__ import annotations

import itertools
import os
import re
import selectors
import signal
import subprocess
import sys
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from session_service.local.ports import free_port

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
START_LIMIT_S = 180.0
STOP_LIMIT_S = 90.0
LINES_LIMIT_S = 120.0

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


class Checkout:
    """A directory in which the README's lines can be pasted while a local run is up."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        (directory / ".venv").symlink_to(sys.prefix)
        # A variable of the developer's own shell must not decide what a new user would see.
        self._environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}

    def start(self) -> subprocess.Popen[str]:
        """Start the run and read its ready line."""
        with (self.directory / "local.err").open("w") as errors:
            run = subprocess.Popen(
                [".venv/bin/python", "-m", "session_service", "local", "--port", str(self.port)],
                cwd=self.directory,
                env=self._environ,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert run.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(run.stdout, selectors.EVENT_READ)
            line = run.stdout.readline() if selector.select(START_LIMIT_S) else ""
        assert line == f"ready http://127.0.0.1:{self.port}\n", (self.directory / "local.err").read_text()
        return run

    def paste(self, shell: str, *, user_id: str) -> str:
        """Run lines as a user would; returns what they printed. Each test has a user of its own."""
        lines = shell.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        done = subprocess.run(
            ["bash", "-u", "-c", lines.replace("--user-id demo", f"--user-id {user_id}")],
            cwd=self.directory,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=LINES_LIMIT_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = Checkout(tmp_path_factory.mktemp("checkout"))
    run = made.start()
    try:
        yield made
    finally:
        run.send_signal(signal.SIGINT)
        code = run.wait(STOP_LIMIT_S)
        assert run.stdout is not None
        run.stdout.close()
    assert code == 0


def test_the_first_lines_make_a_session_and_a_simulator(checkout: Checkout) -> None:
    _run, first, _second = blocks("sh")
    session, simulator, listed = map(decode, checkout.paste(first, user_id="first").splitlines())
    assert session["isNew"]
    assert simulator["status"] == "STARTING"
    assert [one["session_id"] for one in listed["sessions"]] == [session["sessionId"]]
    # What the README shows has the shape of what comes.
    shown = [decode(line) for line in blocks("json")[0].splitlines()]
    assert [set(answer) for answer in shown] == [set(session), set(simulator)]


def test_the_client_orders_and_continues_where_it_was(checkout: Checkout) -> None:
    _run, first, _second = blocks("sh")
    client = blocks("python")[0].replace("127.0.0.1:8080", f"127.0.0.1:{checkout.port}")
    (checkout.directory / "client.py").write_text(client, encoding="utf-8")
    output = checkout.paste(f"{first}\necho ---\n.venv/bin/python client.py", user_id="client")
    frames = [read_frame(line) for line in output.partition("---\n")[2].splitlines()]
    (order,) = [fields for name, fields in frames if fields.get("requestId") == "order-1"]
    assert order["status"] == "FILLED"
    assert order["averagePrice"] > 0
    (second,) = [index for index, (name, fields) in enumerate(frames) if name == "connected" and fields["resumed"]]
    before = [fields for name, fields in frames[:second] if name == "exchange_data"]
    after = [fields for name, fields in frames[second:] if name == "exchange_data"]
    assert before[0]["snapshot"]
    numbered = [*before, *after]
    for earlier, later in itertools.pairwise(numbered):
        assert later["fromSequence"] == earlier["sequence"] + 1
        assert not later["snapshot"]
    assert after


def test_the_lines_without_a_socket(checkout: Checkout) -> None:
    _run, first, second = blocks("sh")
    wait_until_running = """
for _ in $(seq 100); do api http://127.0.0.1:8080/api/sessions | grep -q '"RUNNING"' && break; sleep 0.1; done
api -X POST http://127.0.0.1:8080/api/sessions -d '{"deviceId": "phone"}'
echo ---
"""
    # The stream is ended by curl's own limit, of which it makes exit code 28.
    output = checkout.paste(f"{first}{wait_until_running}{second}", user_id="no-socket").partition("---\n")[2]
    lines = output.splitlines()
    assert decode(lines[0])["status"] == "NEW"
    assert decode(lines[0])["orderId"] in {order["orderId"] for order in decode(lines[1])["orders"]}
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert events[0] == "connected"
    assert events.count("exchange_data") >= 2
    ids = [line for line in lines if line.startswith("id: ")]
    assert len(ids) == len(set(ids)) >= 2
    assert decode(lines[-1]) == {"success": True, "simulatorStopped": True}


def test_the_output_that_is_shown_has_the_frames_that_come() -> None:
    shown = [block for block in blocks("text") if block.startswith("connected")]
    frames = [read_frame(line) for line in shown[0].splitlines()]
    numbers = [fields for name, fields in frames if name == "exchange_data"]
    assert numbers[1]["fromSequence"] == numbers[0]["sequence"] + 1


def decode(line: str) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.json.decode(line)
    return answer


def read_frame(line: str) -> tuple[str, dict[str, Any]]:
    """A line of the client: the frame's type, and what it shows of its fields."""
    name, _, fields = line.partition(" ")
    return name, literal_eval(fields)
