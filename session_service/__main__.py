"""``python -m session_service`` and the ``session-service`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    from session_service.local.command import add_command
    from session_service.main import run

    sys.exit(run(sys.argv[1:], add_command))


if __name__ == "__main__":
    main()
