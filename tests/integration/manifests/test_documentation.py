"""docs/kubernetes.md says of the manifests what they are."""

from __future__ import annotations

import re

from scripts.manifests import K8S, OVERLAYS, ROOT, Object, of_kind, pod_templates, the_one
from tests.integration.manifests.conftest import rendered

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| ([a-z-]+) \| (\d+) s \| (\d+) s \| (\d+) s \| (\d+) s \|$", re.MULTILINE)


def test_the_table_of_times_is_that_of_the_overlays() -> None:
    said = {name: tuple(map(int, times)) for name, *times in ROW.findall(PAGE)}
    found = {}
    for overlay in OVERLAYS:
        objects = rendered(overlay)
        pod = the_one(objects, "Deployment", "session-service")["spec"]["template"]["spec"]
        variables: dict[str, str] = {}
        for source in pod["containers"][0]["envFrom"]:
            variables |= the_one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        autoscaler = the_one(objects, "HorizontalPodAutoscaler", "session-service")["spec"]
        found[overlay.name] = (
            int(variables["DRAIN_DELAY_SECONDS"]),
            int(variables["DRAIN_WINDOW_SECONDS"]),
            pod["terminationGracePeriodSeconds"],
            autoscaler["behavior"]["scaleDown"]["policies"][0]["periodSeconds"],
        )
    assert said == found


def test_every_key_of_a_secret_is_explained_and_no_other(objects: list[Object]) -> None:
    wanted = {
        (entry["valueFrom"]["secretKeyRef"]["name"], entry["valueFrom"]["secretKeyRef"]["key"])
        for template in pod_templates(objects).values()
        for container in template["spec"]["containers"]
        for entry in container["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    table = PAGE.split("| Secret | key | is |", 1)[1].split("\n\n", 1)[0]
    explained = set()
    secret = ""
    for name, keys in re.findall(r"^ *\| (?:`([a-z-]+)`)? ?\| (`[A-Z`_, ]+) \|", table, re.MULTILINE):
        secret = name or secret
        explained |= {(secret, key) for key in re.findall(r"[A-Z_]+", keys)}
    assert explained == wanted


def test_the_job_is_called_by_its_name(objects: list[Object]) -> None:
    (job,) = of_kind(objects, "Job")
    assert set(re.findall(r"job/([a-z0-9-]+)", PAGE)) == {job["metadata"]["name"]}


def test_every_directory_is_in_the_table_of_directories() -> None:
    named = re.findall(r"^\| `(k8s/[a-z/-]+)` \|", PAGE, re.MULTILINE)
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    tops = {path.name for path in K8S.iterdir()}
    assert {name.split("/")[1] for name in named} == tops
