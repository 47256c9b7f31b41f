"""The objects that a pod makes for a simulator fit where the manifests say that they are made."""

from __future__ import annotations

import re

import pytest

from scripts.check_manifests import faults, newest_versions
from scripts.manifests import ROOT, Object, of_kind
from session_service.clients.kubernetes_types import Deployment, ObjectMeta
from session_service.simulators.backend import WorkloadSpec
from session_service.simulators.kubernetes_objects import deployment_manifest, service_manifest
from tests.support.pod_security import violations

SPEC = WorkloadSpec(
    simulator_id="7f3c1f1e-52f7-4d3f-9b0e-3f3a55d8c0de",
    session_id="0b9d4a3e-9f57-4f0a-8a55-5d1e0f7f2c11",
    user_id="somebody@example.com",
    initial_symbols=("AAPL", "MSFT"),
    initial_cash=100_000.0,
    token="a token",
    database_id="3a2f9a0c-5f6e-4c8e-8a43-6f0c9b1d7e55",
)


@pytest.fixture
def made() -> list[Object]:
    """A simulator's Deployment and Service, as they are sent."""
    standing = Deployment(metadata=ObjectMeta(name="simulator-x", uid="uid-1"))
    return [deployment_manifest(SPEC, "session-service:0.1.0"), service_manifest(SPEC, standing)]


@pytest.mark.parametrize("version", newest_versions())
def test_both_are_valid(made: list[Object], version: str) -> None:
    assert faults(made, version) == []


def test_its_pod_is_admitted_where_restricted_is_enforced(made: list[Object]) -> None:
    assert violations(made[0]["spec"]["template"]["spec"]) == []


def test_its_user_is_the_images(made: list[Object]) -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    context = made[0]["spec"]["template"]["spec"]["securityContext"]
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user


def test_the_network_policy_selects_its_pod_and_its_port(objects: list[Object], made: list[Object]) -> None:
    (policy,) = [each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == "simulators"]
    template = made[0]["spec"]["template"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = [port["containerPort"] for port in template["spec"]["containers"][0]["ports"]]
    assert [port["port"] for port in policy["spec"]["ingress"][0]["ports"]] == ports
