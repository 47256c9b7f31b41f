"""A simulator's objects (docs/simulators-on-kubernetes.md#objects): names, labels and manifests. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from session_service.clients.kubernetes_types import Deployment, Object
from session_service.simulators.backend import WorkloadSpec

PORT = 50055
MANAGED_BY = "session-service"
TOKEN_DIGEST = "session-service/token-sha256"  # noqa: S105 - an annotation's name
CONTAINER = "simulator"
PROGRAM = "exchange-simulator"  # of the image
USER = 10001  # any but 0 would do; a number, since the kubelet cannot tell whether a name is root's
GRACE_S = 5  # the simulator ends its streams at once

MAX_LABEL_CHARS = 63
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DIGEST_CHARS = 16

Manifest = dict[str, Any]


def object_name(simulator_id: str) -> str:
    """Of the Deployment and of the Service."""
    return f"simulator-{simulator_id}"


def endpoint(simulator_id: str, namespace: str) -> str:
    """host:port of the Service by the cluster's DNS."""
    return f"{object_name(simulator_id)}.{namespace}.svc.cluster.local:{PORT}"


def label_safe(value: str) -> str:
    """``value`` where it may be a label's, else what is left of it and a digest that tells it from others."""
    if _LABEL.fullmatch(value):
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    left = re.sub(r"[^A-Za-z0-9_.-]+", "_", value)[: MAX_LABEL_CHARS - _DIGEST_CHARS - 1]
    return f"{left}.{digest}".lstrip("_.-")


def simulator_id_of(item: Object) -> str:
    """Whose it is, by its label; empty where it has none."""
    return item.labels.get("simulator_id", "")


def label_selector(database_id: str) -> str:
    """Selects what this database's pods have made, and nobody else's."""
    return f"managed-by={MANAGED_BY},session-db={label_safe(database_id)}"


def pod_selector(simulator_id: str) -> str:
    return f"managed-by={MANAGED_BY},simulator_id={label_safe(simulator_id)}"


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def is_of(deployment: Deployment, spec: WorkloadSpec) -> bool:
    """Whether what stands under the simulator's name is what ``spec`` would make."""
    labels, annotations = deployment.labels, deployment.metadata.annotations or {}
    wanted = _labels(spec)
    return all(
        labels.get(name) == wanted[name] for name in ("managed-by", "simulator_id", "session-db")
    ) and annotations.get(TOKEN_DIGEST) == token_digest(spec.token)


def is_ours(deployment: Deployment, simulator_id: str, database_id: str) -> bool:
    """Whether it is this simulator's, of this database: the rows of a copy name the same simulators."""
    labels = deployment.labels
    return (labels.get("managed-by"), labels.get("simulator_id"), labels.get("session-db")) == (
        MANAGED_BY,
        label_safe(simulator_id),
        label_safe(database_id),
    )


def recipe(image: str) -> str:
    """Of what is made of this image in the way of this release; it becomes another one with either."""
    manifest = deployment_manifest(WorkloadSpec.spare("", "", ""), image)
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:_DIGEST_CHARS]


def assignment(session_id: str, user_id: str) -> dict[str, str]:
    """The labels that say whose it is; empty while it is a spare. When somebody takes it they are written anew, but
    not those of its Pod's template: any change of that makes another Pod."""
    return {"session_id": session_id and label_safe(session_id), "user_id": user_id and label_safe(user_id)}


def deployment_manifest(spec: WorkloadSpec, image: str) -> Manifest:
    """One Pod, never two at a time; Pod Security "restricted" admits it."""
    labels = _labels(spec)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": object_name(spec.simulator_id),
            "labels": labels,
            "annotations": {TOKEN_DIGEST: token_digest(spec.token)},
        },
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 0,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _selector(labels)},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(spec, image)},
        },
    }


def service_manifest(spec: WorkloadSpec, owner: Deployment) -> Manifest:
    """Goes with the Deployment, which in turn is gone only when the Service is."""
    labels = _labels(spec)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": object_name(spec.simulator_id),
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": owner.metadata.name,
                    "uid": owner.metadata.uid,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "type": "ClusterIP",
            "selector": _selector(labels),
            "ports": [{"name": "grpc", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def _labels(spec: WorkloadSpec) -> dict[str, str]:
    return {
        "app": "exchange-simulator",
        "simulator_id": label_safe(spec.simulator_id),
        **assignment(spec.session_id, spec.user_id),
        "managed-by": MANAGED_BY,
        "session-db": label_safe(spec.database_id),
    }


def _selector(labels: dict[str, str]) -> dict[str, str]:
    return {name: labels[name] for name in ("app", "simulator_id", "session-db")}


def _pod_spec(spec: WorkloadSpec, image: str) -> Manifest:
    environ = {**spec.environ(), "PORT": str(PORT)}
    return {
        "automountServiceAccountToken": False,
        # Else the kubelet sets variables for every Service of the namespace, of all other simulators too.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "args": [PROGRAM],
                "env": [{"name": name, "value": _literal(value)} for name, value in environ.items()],
                "ports": [{"name": "grpc", "containerPort": PORT, "protocol": "TCP"}],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "500m", "memory": "512Mi"},
                },
                "startupProbe": {**_PROBE, "periodSeconds": 1, "failureThreshold": 100},
                "readinessProbe": {**_PROBE, "periodSeconds": 5, "failureThreshold": 3},
                "livenessProbe": {**_PROBE, "periodSeconds": 10, "failureThreshold": 6},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }


_PROBE: Manifest = {"grpc": {"port": PORT}, "timeoutSeconds": 2}


def _literal(value: str) -> str:
    """So that the kubelet takes it as it is: it replaces ``$(NAME)``, and ``$$`` by ``$``. A user's id may be
    ``$(SIMULATOR_TOKEN)``."""
    return value.replace("$", "$$")
