"""Every object is one that the newest Kubernetes versions take, and the check would see it if it were not."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest

from scripts.check_manifests import faults, newest_versions
from scripts.manifests import K8S, Object, of_kind, the_one, title
from tests.integration.manifests.conftest import rendered


@pytest.mark.parametrize("version", newest_versions())
def test_every_object_is_valid(objects: list[Object], version: str) -> None:
    assert len(objects) > 15
    assert faults(objects, version) == []


def test_a_misspelt_field_and_a_wrong_type_are_found(objects: list[Object]) -> None:
    deployment = copy.deepcopy(the_one(objects, "Deployment", "session-service"))
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    service = copy.deepcopy(the_one(objects, "Service", "session-service"))
    service["spec"]["ports"][0]["port"] = "80"
    found = faults([deployment, service], newest_versions()[0])
    assert [line.split(",")[0] for line in found] == [title(deployment), title(service)]


def test_no_object_is_there_twice(objects: list[Object]) -> None:
    titles = [title(each) for each in objects]
    assert len(titles) == len(set(titles))


def test_the_migrate_job_can_be_applied_alone(overlay: Path, objects: list[Object]) -> None:
    alone = rendered(overlay / "migrate")
    assert alone == of_kind(objects, "Job")


def test_the_service_monitor_selects_the_service_with_the_metrics(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(K8S / 'base', tmp_path)}]\n"
        f"components: [{os.path.relpath(K8S / 'components' / 'service-monitor', tmp_path)}]\n"
    )
    objects = rendered(tmp_path)
    (monitor,) = of_kind(objects, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (selected,) = [each for each in of_kind(objects, "Service") if wanted <= each["metadata"]["labels"].items()]
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} == {
        port["name"] for port in selected["spec"]["ports"]
    }
