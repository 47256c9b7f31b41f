"""The command ``session-service local``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from session_service.main import LOCAL_DATA_DIR

if TYPE_CHECKING:
    from session_service.main import Commands


def add_command(commands: Commands) -> None:
    """Add ``local`` to the parser's commands."""
    local = commands.add_parser("local", help="the whole system on this machine, with embedded servers")
    local.add_argument("--port", type=int, default=8080, help="port of the first pod [8080]")
    local.add_argument("--pods", type=int, default=1, help="number of pods, on PORT, PORT+1, … [1]")
    local.add_argument("--data-dir", type=_directory, default=Path(LOCAL_DATA_DIR), help="where data stay [.local]")
    local.set_defaults(command=_local)


def _directory(text: str) -> Path:
    # The path of no text is the working directory: a script's unset variable would fill it with a run's data.
    if not text:
        raise argparse.ArgumentTypeError("must be a directory; it was empty")
    return Path(text)


def _local(options: argparse.Namespace, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> int:
    # Imported here: the other commands have no use for it.
    from session_service.local.options import LocalOptions
    from session_service.local.run import run_local

    return run_local(
        LocalOptions(port=options.port, pods=options.pods, data_dir=options.data_dir, environ={**dotenv, **environ})
    )
