"""What an API server refuses of a Deployment or a Service: 422 with the fields, as Kubernetes' validation does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")  # RFC 1123
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|k|M|G)?")
_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_POD_FIELDS = frozenset(
    {
        *("containers", "automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds"),
        *("securityContext", "restartPolicy", "serviceAccountName", "volumes", "nodeSelector", "tolerations"),
    }
)
_CONTAINER_FIELDS = frozenset(
    {
        *("name", "image", "command", "args", "env", "ports", "resources", "securityContext", "imagePullPolicy"),
        *("startupProbe", "readinessProbe", "livenessProbe", "volumeMounts"),
    }
)


def faults_of(plural: str, manifest: Manifest) -> list[str]:
    """``path: why`` of each field that is wrong. An unknown field counts: the service should not send one."""
    checks = {"deployments": _deployment, "services": _service}
    kinds = {"deployments": ("apps/v1", "Deployment"), "services": ("v1", "Service")}
    if (manifest.get("apiVersion"), manifest.get("kind")) != kinds[plural]:
        return ["kind: does not fit the path"]
    return [*_metadata(manifest.get("metadata", {})), *checks[plural](manifest)]


def violations_of_restricted(pod: Manifest) -> list[str]:
    """Of the Pod Security Standard "restricted", by a Pod's spec."""
    context = pod.get("securityContext", {})
    found = []
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        found.append("runAsNonRoot != true")
    if context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        found.append("seccompProfile")
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation != false")
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            found.append("unrestricted capabilities")
    return found


def _metadata(metadata: Manifest) -> Iterator[str]:
    name = metadata.get("name", "")
    if not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield "metadata.name: not a DNS subdomain"
    yield from _labels("metadata.labels", metadata.get("labels", {}))
    for key, value in metadata.get("annotations", {}).items():
        yield from _key("metadata.annotations", key)
        if not isinstance(value, str):
            yield f"metadata.annotations[{key}]: not a string"
    for owner in metadata.get("ownerReferences", ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield f"metadata.ownerReferences.{field}: required"


def _labels(path: str, labels: Manifest) -> Iterator[str]:
    for key, value in labels.items():
        yield from _key(path, key)
        if not isinstance(value, str) or len(value) > 63 or (value and not _NAME.fullmatch(value)):
            yield f"{path}[{key}]: {value!r} is no label"


def _key(path: str, key: str) -> Iterator[str]:
    prefix, separator, name = key.rpartition("/")
    if separator and (not _SUBDOMAIN.fullmatch(prefix) or len(prefix) > 253):
        yield f"{path}: {key!r} has a prefix that is no DNS subdomain"
    if not name or len(name) > 63 or not _NAME.fullmatch(name):
        yield f"{path}: {key!r} is no name"


def _deployment(manifest: Manifest) -> Iterator[str]:
    spec = manifest.get("spec", {})
    selector = spec.get("selector", {}).get("matchLabels", {})
    template = spec.get("template", {})
    labels = template.get("metadata", {}).get("labels", {})
    yield from _labels("spec.template.metadata.labels", labels)
    if not selector:
        yield "spec.selector: required"
    if any(labels.get(key) != value for key, value in selector.items()):
        yield "spec.selector: does not select the template"
    if spec.get("strategy", {}).get("type", "RollingUpdate") not in {"Recreate", "RollingUpdate"}:
        yield "spec.strategy.type: unknown"
    for field in ("replicas", "revisionHistoryLimit"):
        if not isinstance(spec.get(field, 1), int) or spec.get(field, 1) < 0:
            yield f"spec.{field}: not a count"
    yield from _pod("spec.template.spec", template.get("spec", {}))


def _pod(path: str, spec: Manifest) -> Iterator[str]:
    for field in spec.keys() - _POD_FIELDS:
        yield f"{path}.{field}: unknown field"
    if not spec.get("containers"):
        yield f"{path}.containers: required"
    for number, container in enumerate(spec.get("containers", ())):
        yield from _container(f"{path}.containers[{number}]", container)


def _container(path: str, container: Manifest) -> Iterator[str]:
    for field in container.keys() - _CONTAINER_FIELDS:
        yield f"{path}.{field}: unknown field"
    if not _LABEL_1035.fullmatch(container.get("name", "")):
        yield f"{path}.name: not a DNS label"
    if not container.get("image"):
        yield f"{path}.image: required"
    for variable in container.get("env", ()):
        if not _ENV_NAME.fullmatch(variable.get("name", "")):
            yield f"{path}.env: {variable.get('name')!r} is no name"
        if not isinstance(variable.get("value", ""), str) or "\0" in variable.get("value", ""):
            yield f"{path}.env[{variable.get('name')}]: not a string"
    for kind in ("requests", "limits"):
        for resource, quantity in container.get("resources", {}).get(kind, {}).items():
            if not _QUANTITY.fullmatch(str(quantity)):
                yield f"{path}.resources.{kind}.{resource}: not a quantity"
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        if kind in container and not 1 <= container[kind].get("grpc", {}).get("port", 0) <= 65535:
            yield f"{path}.{kind}: has no handler"


def _service(manifest: Manifest) -> Iterator[str]:
    name = manifest.get("metadata", {}).get("name", "")
    if len(name) > 63 or not _LABEL_1035.fullmatch(name):
        yield "metadata.name: not a DNS label"
    spec = manifest.get("spec", {})
    yield from _labels("spec.selector", spec.get("selector", {}))
    if not spec.get("ports"):
        yield "spec.ports: required"
    for port in spec.get("ports", ()):
        if not 1 <= port.get("port", 0) <= 65535:
            yield "spec.ports.port: not a port"
