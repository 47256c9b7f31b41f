"""The network of a cluster on one machine: each Service has a loopback address of its own, found by its DNS name.

Names resolve for processes that are started through ``Node.launcher``: in a mount namespace of their own they see the
cluster's hosts file as /etc/hosts, and the service account where a kubelet mounts it. Nobody else sees either.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

_PROBE_LIMIT_S = 10.0
# unshare(1) may be root's alone; where the kernel lets everybody have user namespaces, it is not.
_UNSHARE = (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount"))
_ENTER = """set -e
mount --bind "$0" /etc/hosts
mount -t tmpfs node /var/run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
mount --bind "$1" /var/run/secrets/kubernetes.io/serviceaccount
shift
exec "$@"
"""


class ServiceNetwork:
    """Addresses of 127.0.0.0/8, which any process of a Linux machine may bind, and the hosts file that names them.

    A file that others have mounted cannot be replaced, and may be read at any moment: lines are only appended, and
    one that is no longer true becomes a comment, each by a single write.
    """

    def __init__(self, hosts: Path, domain: str) -> None:
        self.hosts = hosts
        self._domain = domain
        # Somewhere else each time: two networks of one machine should not meet.
        self._net = f"127.{64 + secrets.randbelow(128)}"
        self._first = secrets.randbelow(200)
        self._addresses: dict[str, str] = {}
        self._lines: dict[str, int] = {}  # where the line of a name that resolves begins
        hosts.write_text("127.0.0.1 localhost\n", encoding="ascii")

    @property
    def names(self) -> frozenset[str]:
        """The Services whose names resolve."""
        return frozenset(self._lines)

    def address(self, service: str) -> str:
        """Its address, the same for as long as this network lasts, whether its name resolves or not."""
        if service not in self._addresses:
            third, fourth = divmod(len(self._addresses), 254)
            self._addresses[service] = f"{self._net}.{self._first + third}.{fourth + 1}"
        return self._addresses[service]

    def resolve_only(self, services: Iterable[str]) -> None:
        """From now on exactly these names resolve."""
        wanted = set(services)
        if wanted == self._lines.keys():
            return
        with self.hosts.open("r+b", buffering=0) as file:
            for service in self._lines.keys() - wanted:
                file.seek(self._lines.pop(service))
                file.write(b"#")
            for service in sorted(wanted - self._lines.keys()):
                self._lines[service] = file.seek(0, os.SEEK_END)
                file.write(f"{self.address(service)} {service}{self._domain}\n".encode("ascii"))


class Node:
    """What a process of the cluster sees. ``service_account`` is a folder with ``token`` and ``ca.crt``."""

    def __init__(self, network: ServiceNetwork, service_account: Path) -> None:
        self._network = network
        self._service_account = service_account

    @property
    def launcher(self) -> Sequence[str]:
        """The beginning of a command line: what follows replaces it, under its process id."""
        return (*_unshare(), "sh", "-c", _ENTER, str(self._network.hosts), str(self._service_account))


def why_no_node() -> str | None:
    """Why processes cannot see a network of their own here; None where they can."""
    if shutil.which("unshare") is None:
        return "there is no unshare(1) here"
    return None if _unshare() else "neither root nor a user namespace may mount here"


def _unshare() -> Sequence[str]:
    """The first command that may mount; empty where none may."""
    for command in _UNSHARE:
        probe = subprocess.run(
            [*command, "mount", "-t", "tmpfs", "probe", "/var/run"],
            capture_output=True,
            timeout=_PROBE_LIMIT_S,
            check=False,
        )
        if probe.returncode == 0:
            return command
    return ()
