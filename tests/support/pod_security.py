"""The Pod Security Standard "restricted", as far as a pod template can be judged by itself.

Its text is at kubernetes.io, "Pod Security Standards"; the names of the controls are from there. Windows is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ALLOWED_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
SECCOMP = frozenset({"RuntimeDefault", "Localhost"})
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
    }
)

Spec = Mapping[str, Any]


def violations(pod: Spec) -> list[str]:
    """What in a pod's ``spec`` the standard forbids, one line each; empty where it is admitted."""
    return [*_of_pod(pod), *(line for container in _containers(pod) for line in _of_container(container, pod))]


def _containers(pod: Spec) -> Iterator[Spec]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(field, [])


def _of_pod(pod: Spec) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"Host Namespaces: {field}"
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= ALLOWED_VOLUMES:
            yield f"Volume Types: {volume['name']} is {', '.join(sorted(kinds))}"
    for sysctl in pod.get("securityContext", {}).get("sysctls", []):
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"Sysctls: {sysctl['name']}"


def _of_container(container: Spec, pod: Spec) -> Iterator[str]:
    name = container["name"]
    own: Spec = container.get("securityContext", {})
    inherited: Spec = {**pod.get("securityContext", {}), **own}
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield f"Privileged Containers: {name}"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"Privilege Escalation: {name}"
    if inherited.get("runAsNonRoot") is not True:
        yield f"Running as Non-root: {name}"
    if inherited.get("runAsUser") == 0:
        yield f"Running as Non-root user: {name}"
    if inherited.get("seccompProfile", {}).get("type") not in SECCOMP:
        yield f"Seccomp: {name}"
    if "ALL" not in capabilities.get("drop", []):
        yield f"Capabilities: {name} does not drop ALL"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield f"Capabilities: {name} adds {', '.join(capabilities['add'])}"
    if own.get("procMount", "Default") != "Default":
        yield f"/proc Mount Type: {name}"
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"Host Ports: {name}"
