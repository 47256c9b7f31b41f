"""Who may do what: Roles, as the shipped manifests have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ACCESS = Path(__file__).parents[3] / "k8s" / "base" / "access.yaml"
API_GROUPS = {"deployments": "apps", "services": "", "pods": ""}


class Role:
    """The rules of an rbac.authorization.k8s.io/v1 Role, which know no names of objects."""

    def __init__(self, rules: list[dict[str, Any]]) -> None:
        self._rules = rules

    def allows(self, verb: str, plural: str) -> bool:
        return any(
            verb in rule["verbs"] and plural in rule["resources"] and API_GROUPS[plural] in rule["apiGroups"]
            for rule in self._rules
        )


def shipped_role() -> Role:
    """The one that pods of the service have in the simulators' namespace."""
    documents = yaml.safe_load_all(ACCESS.read_text(encoding="utf-8"))
    return Role(next(document for document in documents if document["kind"] == "Role")["rules"])
