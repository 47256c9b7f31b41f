"""``session-service local``: the whole system on 127.0.0.1 (docs/local-run.md)."""

from __future__ import annotations

import asyncio

from session_service.errors import ConfigurationError, SessionServiceError
from session_service.local.console import Console
from session_service.local.data_directory import DataDirectory
from session_service.local.options import LocalOptions, check
from session_service.local.pod import PodStartError
from session_service.local.supervisor import Supervisor

__all__ = ["LocalOptions", "run_local"]


def run_local(options: LocalOptions) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0 orderly, 1 failed, 2 a pod refused its configuration.

    Raises ConfigurationError, of which the caller makes exit code 2 and one line.
    """
    settings = check(options)
    console = Console()
    with DataDirectory(options.data_dir) as data:
        try:
            return asyncio.run(Supervisor(options, settings, data, console).run())
        except BaseExceptionGroup as group:
            first = _first_error(group)
            if first is None:
                raise
            error = first
        except ConfigurationError:
            raise
        except (SessionServiceError, OSError) as caught:
            error = caught
    if isinstance(error, ConfigurationError):
        raise error
    console.attention(str(error))
    return error.exit_code if isinstance(error, PodStartError) else 1


def _first_error(group: BaseExceptionGroup[BaseException]) -> SessionServiceError | OSError | None:
    """The first error of ours in a group of concurrent ones; None where one of them is a defect."""
    ours, defects = group.split((SessionServiceError, OSError))
    if defects is not None or ours is None:
        return None
    found: BaseException = ours
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, SessionServiceError | OSError) else None
