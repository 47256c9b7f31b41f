"""The manifests agree with the program: variables, ports, probes, commands, the drain's arithmetic, releases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exchange_simulator.settings import DEFAULT_PORT as SIMULATOR_PORT
from scripts.manifests import Object, of_kind, pod_templates, the_one
from session_service import __version__, config

SECRET_VALUE = "0123456789abcdef0123456789abcdef"
MARGIN_S = 20.0  # docs/operations.md#shutdown: what a drain takes beside its delay and its window


def containers(objects: list[Object]) -> Iterator[dict[str, Any]]:
    """The containers of the product's own image."""
    for template in pod_templates(objects).values():
        for container in template["spec"]["containers"]:
            if re.search(r"(^|/)session-service[:@]", container["image"]):
                yield container


def environment(objects: list[Object], container: dict[str, Any]) -> dict[str, str]:
    """The variables as the kubelet would set them; secrets are some value, the pod's name is one."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= the_one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for entry in container["env"]:
        variables[entry["name"]] = entry.get("value", SECRET_VALUE)
    return variables


def pod(objects: list[Object]) -> dict[str, Any]:
    spec: dict[str, Any] = the_one(objects, "Deployment", "session-service")["spec"]["template"]["spec"]
    return spec


def settings(objects: list[Object]) -> config.Settings:
    return config.load(environment(objects, pod(objects)["containers"][0])).settings


def test_every_variable_is_one_of_the_configuration(objects: list[Object]) -> None:
    known = {value.variable for value in config.load({}).effective}
    for container in containers(objects):
        assert set(environment(objects, container)) <= known


def test_every_secret_of_the_program_comes_from_a_secret(objects: list[Object]) -> None:
    secrets = {value.variable for value in config.load({}).effective if value.secret} | {"MIGRATE_DB_USER"}
    for container in containers(objects):
        from_secrets = {each["name"] for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})}
        assert set(environment(objects, container)) & secrets <= from_secrets
    assert of_kind(objects, "Secret") == [], "a value of a secret stands in the manifests"


def test_a_pod_accepts_its_configuration(objects: list[Object], overlay: Path) -> None:
    loaded = settings(objects)
    config.check_for_serving(loaded)
    assert loaded.simulator.backend is config.SimulatorBackendName.KUBERNETES
    is_production = loaded.server.environment is config.Environment.PRODUCTION
    assert is_production == (overlay.name == "production")


def test_a_pod_knows_its_own_name(objects: list[Object]) -> None:
    (name,) = [each for each in pod(objects)["containers"][0]["env"] if each["name"] == "POD_NAME"]
    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_the_ports_are_those_that_the_program_listens_on(objects: list[Object]) -> None:
    server = settings(objects).server
    ports = {port["name"]: port["containerPort"] for port in pod(objects)["containers"][0]["ports"]}
    assert ports == {"http": server.port, "metrics": server.metrics_port}
    for service in of_kind(objects, "Service"):
        if service["metadata"]["name"].startswith("session-service"):
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)


def test_the_probes_ask_the_programs_own_routes(objects: list[Object]) -> None:
    container = pod(objects)["containers"][0]
    asked = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe: get["path"] for probe, get in asked.items()} == {
        "startupProbe": "/health",
        "livenessProbe": "/health",
        "readinessProbe": "/readiness",
    }
    assert {get["port"] for get in asked.values()} == {"http"}
    # The checks of /readiness take 1 s at most: a probe that waits less would call a slow pod unready.
    assert container["readinessProbe"]["timeoutSeconds"] > 1


def test_a_drain_fits_the_grace_period(objects: list[Object]) -> None:
    drain = settings(objects).pod
    assert pod(objects)["terminationGracePeriodSeconds"] >= drain.drain_delay_s + drain.drain_window_s + MARGIN_S
    assert "lifecycle" not in pod(objects)["containers"][0], "a preStop hook would take its time from the drain"


def test_endpoints_have_time_to_propagate(objects: list[Object]) -> None:
    readiness = pod(objects)["containers"][0]["readinessProbe"]
    assert settings(objects).pod.drain_delay_s >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_the_autoscaler_removes_one_pod_at_a_time_slower_than_a_drain(objects: list[Object]) -> None:
    autoscaler = the_one(objects, "HorizontalPodAutoscaler", "session-service")["spec"]
    (policy,) = autoscaler["behavior"]["scaleDown"]["policies"]
    grace_s = pod(objects)["terminationGracePeriodSeconds"]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert policy["periodSeconds"] >= grace_s
    assert autoscaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= grace_s
    assert autoscaler["scaleTargetRef"]["name"] == "session-service"
    assert "replicas" not in the_one(objects, "Deployment", "session-service")["spec"], (
        "an apply would undo its number"
    )


def test_a_rolling_update_never_has_fewer_pods_than_before(objects: list[Object]) -> None:
    strategy = the_one(objects, "Deployment", "session-service")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    budget = the_one(objects, "PodDisruptionBudget", "session-service")["spec"]
    autoscaler = the_one(objects, "HorizontalPodAutoscaler", "session-service")["spec"]
    assert budget["maxUnavailable"] == 1 < autoscaler["minReplicas"]


def test_three_pods_in_production(production: list[Object]) -> None:
    assert the_one(production, "HorizontalPodAutoscaler", "session-service")["spec"]["minReplicas"] >= 3
    spread = {each["topologyKey"] for each in pod(production)["topologySpreadConstraints"]}
    assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


def test_one_image_of_this_release_for_pods_migrations_and_simulators(objects: list[Object]) -> None:
    images = {container["image"] for container in containers(objects)} | {str(settings(objects).simulator.image)}
    assert len(images) == 1
    assert images.pop().endswith(f"session-service:{__version__}")
    (job,) = of_kind(objects, "Job")
    assert job["metadata"]["name"] == "session-migrate-" + __version__.replace(".", "-")


def test_the_commands_are_ones_of_the_program(objects: list[Object]) -> None:
    assert [container["args"] for container in containers(objects)] == [
        ["session-service", "serve"],
        ["session-service", "migrate"],
    ]


def test_every_config_map_and_port_that_is_referred_to_is_there(objects: list[Object]) -> None:
    for name, template in pod_templates(objects).items():
        for container in template["spec"]["containers"]:
            for source in container.get("envFrom", []):
                assert the_one(objects, "ConfigMap", source["configMapRef"]["name"]), name


def policies(objects: list[Object], namespace: str) -> dict[str, dict[str, Any]]:
    found = [each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["namespace"] == namespace]
    return {each["metadata"]["name"]: each["spec"] for each in found}


def test_nothing_may_talk_to_anything_unless_it_is_said(objects: list[Object]) -> None:
    for namespace in (each["metadata"]["name"] for each in of_kind(objects, "Namespace")):
        assert policies(objects, namespace)["default-deny"] == {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
        }


def test_only_pods_of_the_service_reach_a_simulator_and_it_reaches_nobody(objects: list[Object]) -> None:
    (rule,) = policies(objects, "session-simulators")["simulators"]["ingress"]
    (source,) = rule["from"]
    labels = the_one(objects, "Deployment", "session-service")["spec"]["template"]["metadata"]["labels"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "session-service"}
    assert source["podSelector"]["matchLabels"].items() <= labels.items()
    assert [port["port"] for port in rule["ports"]] == [SIMULATOR_PORT]
    assert not any("egress" in each for each in policies(objects, "session-simulators").values())


def test_the_service_reaches_what_it_is_configured_to_use(objects: list[Object]) -> None:
    loaded = settings(objects)
    allowed = policies(objects, "session-service")
    ports = {port["port"] for rule in allowed["session-service"]["egress"] for port in rule["ports"]}
    assert {loaded.database.port, loaded.redis.port, SIMULATOR_PORT, 443, 6443} == ports
    assert {port["port"] for port in allowed["dns"]["egress"][0]["ports"]} == {53}
    assert [port["port"] for port in allowed["session-migrate"]["egress"][0]["ports"]] == [loaded.database.port]


def test_an_ingress_lets_long_connections_live_and_shows_no_operations(production: list[Object]) -> None:
    (ingress,) = of_kind(production, "Ingress")
    nginx = {key.rpartition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()}
    assert int(nginx["proxy-read-timeout"]) >= 3600
    assert int(nginx["proxy-send-timeout"]) >= 3600
    assert nginx["proxy-buffering"] == "off"
    paths = [path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert {"/api", "/ws"} <= set(paths)
    assert not {"/", "/health", "/readiness", "/metrics"} & set(paths)
