"""Every pod that the manifests make is admitted where "restricted" is enforced."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from scripts.manifests import Object, of_kind, pod_templates, the_one
from tests.support.pod_security import violations

ENFORCE = "pod-security.kubernetes.io/enforce"


def test_both_namespaces_enforce_it(objects: list[Object]) -> None:
    enforced = {
        each["metadata"]["name"]: each["metadata"]["labels"][ENFORCE] for each in of_kind(objects, "Namespace")
    }
    assert enforced == {"session-service": "restricted", "session-simulators": "restricted"}


def test_every_pod_is_admitted(objects: list[Object]) -> None:
    templates = pod_templates(objects)
    assert len(templates) >= 2
    refused = {name: violations(template["spec"]) for name, template in templates.items()}
    assert {name: lines for name, lines in refused.items() if lines} == {}


def test_every_root_file_system_is_read_only(objects: list[Object]) -> None:
    for name, template in pod_templates(objects).items():
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name


def test_only_pods_of_the_service_have_a_token(objects: list[Object]) -> None:
    specs = {name: template["spec"] for name, template in pod_templates(objects).items()}
    have = [name for name, spec in specs.items() if spec.get("automountServiceAccountToken", True)]
    assert have == ["Deployment/session-service/session-service"]


CHANGES: dict[str, dict[str, Any]] = {
    "Host Namespaces": {"hostNetwork": True},
    "Volume Types": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
    "Sysctls": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "Running as Non-root user": {"securityContext": {"runAsUser": 0}},
    "Running as Non-root": {"securityContext": {"runAsNonRoot": False}},
    "Seccomp": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "Privileged Containers": {"container": {"privileged": True}},
    "Privilege Escalation": {"container": {"allowPrivilegeEscalation": True}},
    "Capabilities": {"container": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}},
    "/proc Mount Type": {"container": {"procMount": "Unmasked"}},
}


@pytest.mark.parametrize("control", CHANGES)
def test_the_check_sees_each_control_broken(objects: list[Object], control: str) -> None:
    pod = copy.deepcopy(the_one(objects, "Deployment", "session-service")["spec"]["template"]["spec"])
    change = dict(CHANGES[control])
    pod["containers"][0]["securityContext"] |= change.pop("container", {})
    pod["securityContext"] |= change.pop("securityContext", {})
    pod |= change
    assert [line.partition(":")[0] for line in violations(pod)] == [control]
