"""The examples in k8s/sandbox-access: one set of networks, and nobody from them anywhere else."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import yaml

from session_service.database.sandbox_roles import ROLE_PREFIX, SHARED_ROLE

ACCESS = Path(__file__).parents[2] / "k8s" / "sandbox-access"
NETWORKS = [f"10.{vm}.0.0/24" for vm in range(1, 6)]


def hba() -> list[list[str]]:
    lines = (ACCESS / "pg_hba.conf").read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_sandboxes_enter_their_database_by_tls_and_scram_and_nobody_else_comes_from_their_networks() -> None:
    roles = f'{SHARED_ROLE},"/^{ROLE_PREFIX}"'
    admitted = [["hostssl", "sessiondb", roles, network, "scram-sha-256"] for network in NETWORKS]
    rejected = [["host", "all", "all", network, "reject"] for network in NETWORKS]
    assert hba() == [*admitted, ["host", "all", roles, "all", "reject"], *rejected]


def test_the_network_policy_admits_the_same_networks_to_the_port_of_postgresql() -> None:
    policy = yaml.safe_load((ACCESS / "network_policy.yaml").read_text(encoding="utf-8"))
    kubernetes_validate.validate(policy, "1.30", strict=True)
    [rule] = policy["spec"]["ingress"]
    assert [source["ipBlock"]["cidr"] for source in rule["from"]] == NETWORKS
    assert rule["ports"] == [{"protocol": "TCP", "port": 5432}]
