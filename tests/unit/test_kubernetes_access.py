"""The Role grants what the code calls: nothing that is unused, nothing that would be refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.manifests import K8S, ROOT, read, the_one
from session_service.clients import kubernetes_types
from session_service.clients.kubernetes_types import Resource
from tests.support.kubernetes_calls import calls

RESOURCES = {name: each for name, each in vars(kubernetes_types).items() if isinstance(each, Resource)}
ACCESS = read(K8S / "base" / "access.yaml")
ROLE = the_one(ACCESS, "Role", "session-service")

SOURCE = """
client.get(PODS, name)
ListWatch(client, DEPLOYMENTS)
class ListWatch:
    def __init__(self, client, resource):
        self._resource = resource
    async def run(self):
        await list_all(self._client, self._resource)
        self._client.watch(self._resource, "")
async def list_all(client, resource):
    return await client.list_page(resource, "")
"""


def group(resource: Resource[kubernetes_types.Object]) -> str:
    """The API group of a path such as ``apis/apps/v1``; the core's ``api/v1`` has none."""
    return resource.group_path.split("/")[1] if resource.group_path.startswith("apis/") else ""


def test_what_is_granted_is_what_is_called() -> None:
    granted = {
        (api_group, resource, verb)
        for rule in ROLE["rules"]
        for api_group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    called = {
        (group(RESOURCES[constant]), RESOURCES[constant].plural, verb)
        for constant, verb in calls(sorted((ROOT / "session_service").rglob("*.py")), RESOURCES)
    }
    assert ("apps", "deployments", "create") in called
    assert granted == called


def test_nothing_is_granted_by_a_wildcard_or_outside_of_the_simulators_namespace() -> None:
    assert "*" not in str(ROLE["rules"])
    assert [each["kind"] for each in ACCESS] == ["ServiceAccount", "Role", "RoleBinding"]
    binding = the_one(ACCESS, "RoleBinding", "session-service")
    assert {ROLE["metadata"]["namespace"], binding["metadata"]["namespace"]} == {"session-simulators"}
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "session-service"}
    (subject,) = binding["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "session-service", "namespace": "session-service"}


def test_a_call_is_found_also_where_the_resource_is_handed_on(tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text(SOURCE)
    found = calls([tmp_path / "source.py"], ["PODS", "DEPLOYMENTS"])
    assert found == {("PODS", "get"), ("DEPLOYMENTS", "list"), ("DEPLOYMENTS", "watch")}


def test_a_mention_that_is_no_known_call_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text("kinds = [PODS]\n")
    with pytest.raises(ValueError, match="PODS"):
        calls([tmp_path / "source.py"], ["PODS"])
