"""Becomes another program that cannot outlive its parent. Runs as a script of its own, on the standard library only.

``python -I -S child_launcher.py --parent PID [--death-signal N] [--user UID:GID] -- COMMAND…``

It exists because the two usual ways are not safe here: a ``preexec_fn`` runs Python code after a fork that threads
(gRPC has some) may have taken at a bad moment, and a program such as ``postgres`` does not ask for the signal itself.
The launcher is replaced by the command (``execvpe``), so the process id stays the one that the parent knows.

On platforms other than Linux there is no parent-death signal: the parent's guardian does it there
(session_service/local/guardian.py).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)
EXIT_CANNOT_RUN = 126  # as a shell says it: found, but cannot be executed
EXIT_NOT_FOUND = 127


def tie_to_parent(parent_pid: int, death_signal: int) -> None:
    """Ask the kernel for ``death_signal`` when the parent's thread that forked us ends; Linux only.

    To be called after a change of user, which clears the request. Exits at once where the parent is gone already:
    then nobody would send the signal.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os._exit(1)


def become_user(uid: int, gid: int) -> None:
    """Give up root for good: no supplementary groups, then the group, then the user."""
    os.setgroups([])
    os.setgid(gid)  # for root, these set the real and the saved ids too
    os.setuid(uid)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="child_launcher")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, default=int(signal.SIGKILL))
    parser.add_argument("--user", default="")
    parser.add_argument("--check", action="store_true", help="only tell whether COMMAND could be executed")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    if options.user:
        uid, _, gid = options.user.partition(":")
        become_user(int(uid), int(gid))
    if options.check:
        return 0 if os.access(options.command[0], os.R_OK | os.X_OK) else EXIT_CANNOT_RUN
    tie_to_parent(options.parent, options.death_signal)
    try:
        os.execvp(options.command[0], options.command)  # noqa: S606 - the command comes from our own code
    except FileNotFoundError as error:
        sys.stderr.write(f"{options.command[0]}: {error.strerror}\n")
        return EXIT_NOT_FOUND
    except OSError as error:
        sys.stderr.write(f"{options.command[0]}: {error.strerror}\n")
        return EXIT_CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
