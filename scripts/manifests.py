"""The manifests of k8s/ as kustomize renders them. Pure but for the call of kubectl; nothing reaches a cluster."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
K8S = ROOT / "k8s"
OVERLAYS = tuple(sorted(path.parent for path in K8S.glob("overlays/*/kustomization.yaml")))
RENDER_LIMIT_S = 60.0

Object = dict[str, Any]
"""One Kubernetes object, as its YAML says."""


class KubectlMissingError(Exception):
    """There is no kubectl on this machine, so nothing can be rendered."""


def render(directory: Path) -> list[Object]:
    """What `kubectl apply -k directory` would apply.

    Raises KubectlMissingError; RuntimeError, with kubectl's own words, where it cannot be rendered.
    """
    if shutil.which("kubectl") is None:
        raise KubectlMissingError("there is no kubectl here")
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(directory)], capture_output=True, text=True, timeout=RENDER_LIMIT_S, check=False
    )
    if rendered.returncode != 0:
        raise RuntimeError(f"{directory}: {rendered.stderr.strip()}")
    return [loaded for loaded in yaml.safe_load_all(rendered.stdout) if loaded]


def read(path: Path) -> list[Object]:
    """The objects of one file, as they are written."""
    return [loaded for loaded in yaml.safe_load_all(path.read_text(encoding="utf-8")) if loaded]


def of_kind(objects: Iterable[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def the_one(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The object of this kind and name. Raises LookupError unless there is exactly one."""
    found = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    if len(found) != 1:
        raise LookupError(f"{len(found)} objects {kind}/{name}")
    return found[0]


def title(item: Object) -> str:
    """``Kind/namespace/name``; without the namespace where it has none."""
    metadata = item["metadata"]
    return "/".join(filter(None, (item["kind"], metadata.get("namespace"), metadata["name"])))


def pod_templates(objects: Sequence[Object]) -> dict[str, Object]:
    """The pod template (metadata and spec) of everything that makes pods, by the object's title."""
    return {
        title(each): each["spec"]["template"]
        for each in objects
        if each["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}
    }
