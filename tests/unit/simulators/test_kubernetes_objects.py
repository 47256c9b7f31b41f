"""A simulator's objects: what stands in them, and that an API server and a kubelet take them as they are meant."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from session_service.clients.kubernetes_types import Deployment, ObjectMeta
from session_service.simulators.backend import WorkloadSpec
from session_service.simulators.kubernetes_objects import (
    assignment,
    deployment_manifest,
    endpoint,
    is_of,
    label_safe,
    label_selector,
    recipe,
    service_manifest,
    token_digest,
)
from tests.support.fake_kubernetes.kubelet import expanded
from tests.support.fake_kubernetes.validation import faults_of, violations_of_restricted

SIMULATOR = "0b0f4f3e-8f7e-4f4a-9a53-0c1d2e3f4a5b"
SESSION = "5a1c9f5e-1b9e-4ad4-8f8c-aaaaaaaaaaaa"
DATABASE = "4d8d1c9e-7a4b-4a8f-9d3a-bbbbbbbbbbbb"
OWNER = Deployment(metadata=ObjectMeta(name=f"simulator-{SIMULATOR}", uid="uid-1"))

# What a user claim may hold (docs/authentication.md): up to 255 characters, none of them a control character.
user_ids = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=255)


def spec(user_id: str = "user-1", token: str = "s3cret") -> WorkloadSpec:  # noqa: S107 - of a test
    return WorkloadSpec(SIMULATOR, SESSION, user_id, ("AAPL", "MSFT"), 100_000.0, token, DATABASE)


def test_the_endpoint_is_the_service_by_the_clusters_dns() -> None:
    assert endpoint(SIMULATOR, "sims") == f"simulator-{SIMULATOR}.sims.svc.cluster.local:50055"


def test_a_spare_is_nobodys_and_serves_the_first_that_comes() -> None:
    manifest = deployment_manifest(WorkloadSpec.spare(SIMULATOR, "s3cret", DATABASE), "registry.example/simulator:1")
    labels = manifest["metadata"]["labels"]
    assert (labels["session_id"], labels["user_id"], labels["simulator_id"]) == ("", "", SIMULATOR)
    assert faults_of("deployments", manifest) == []
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    environ = expanded(container["env"])
    assert environ.keys() == {
        *("SIMULATOR_ID", "SINGLE_SESSION", "INITIAL_SYMBOLS", "INITIAL_CASH", "SIMULATOR_TOKEN", "PORT")
    }
    assert environ["SINGLE_SESSION"] == "true"


@given(user_ids)
def test_whoever_takes_a_spare_its_labels_become_those_of_any_other(user_id: str) -> None:
    taken = deployment_manifest(WorkloadSpec.spare(SIMULATOR, "s3cret", DATABASE), "image")["metadata"]["labels"]
    taken |= assignment(SESSION, user_id)
    assert taken == deployment_manifest(spec(user_id), "image")["metadata"]["labels"]


def test_a_recipe_is_the_images_and_nobodys_in_particular() -> None:
    assert recipe("registry.example/simulator:1") == recipe("registry.example/simulator:1")
    assert recipe("registry.example/simulator:1") != recipe("registry.example/simulator:2")


def test_a_deployment_as_the_contract_has_it() -> None:
    manifest = deployment_manifest(spec(), "registry.example/simulator:1")
    assert manifest["metadata"]["name"] == f"simulator-{SIMULATOR}"
    labels = manifest["metadata"]["labels"]
    assert labels == {
        "app": "exchange-simulator",
        "simulator_id": SIMULATOR,
        "session_id": SESSION,
        "user_id": "user-1",
        "managed-by": "session-service",
        "session-db": DATABASE,
    }
    assert manifest["spec"]["template"]["metadata"]["labels"] == labels
    assert manifest["spec"]["replicas"] == 1
    assert manifest["spec"]["strategy"] == {"type": "Recreate"}
    pod = manifest["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/simulator:1"
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"] == {"port": 50055}
    assert expanded(container["env"]) == {
        "SIMULATOR_ID": SIMULATOR,
        "SESSION_ID": SESSION,
        "USER_ID": "user-1",
        "INITIAL_SYMBOLS": "AAPL,MSFT",
        "INITIAL_CASH": "100000",
        "SIMULATOR_TOKEN": "s3cret",
        "PORT": "50055",
    }


def test_the_service_leads_to_the_pod_and_goes_with_its_deployment() -> None:
    service = service_manifest(spec(), OWNER)
    pod_labels = deployment_manifest(spec(), "image")["spec"]["template"]["metadata"]["labels"]
    assert service["metadata"]["name"] == f"simulator-{SIMULATOR}"
    assert service["spec"]["type"] == "ClusterIP"
    assert service["spec"]["selector"].items() <= pod_labels.items()
    assert [port["port"] for port in service["spec"]["ports"]] == [50055]
    (owner,) = service["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Deployment", f"simulator-{SIMULATOR}", "uid-1")
    assert owner["blockOwnerDeletion"] is True


def test_the_token_is_in_the_environment_and_nowhere_else() -> None:
    manifest = deployment_manifest(spec(token="t0p-s3cret"), "image")
    environ = manifest["spec"]["template"]["spec"]["containers"][0].pop("env")
    assert "t0p-s3cret" in json.dumps(environ)
    assert "t0p-s3cret" not in json.dumps(manifest)
    assert token_digest("t0p-s3cret") in json.dumps(manifest["metadata"]["annotations"])
    assert "t0p-s3cret" not in json.dumps(service_manifest(spec(token="t0p-s3cret"), OWNER))


def test_pod_security_restricted_admits_it() -> None:
    assert violations_of_restricted(deployment_manifest(spec(), "image")["spec"]["template"]["spec"]) == []


@given(user_ids)
def test_any_users_objects_are_valid_and_its_id_arrives_as_it_is(user_id: str) -> None:
    manifest = deployment_manifest(spec(user_id, token="s3cret"), "image")
    assert faults_of("deployments", manifest) == []
    assert faults_of("services", service_manifest(spec(user_id), OWNER)) == []
    environ = expanded(manifest["spec"]["template"]["spec"]["containers"][0]["env"])
    assert environ["USER_ID"] == user_id
    assert environ["SIMULATOR_TOKEN"] == "s3cret"


def test_a_users_id_is_no_reference_to_a_variable() -> None:
    for user_id in ("$(SIMULATOR_ID)", "$$(SIMULATOR_ID)", "a$b$$c", "$"):
        container = deployment_manifest(spec(user_id), "image")["spec"]["template"]["spec"]["containers"][0]
        assert expanded(container["env"])["USER_ID"] == user_id


@given(st.text(max_size=300))
def test_a_label_is_always_one(value: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", label_safe(value))


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", fullmatch=True))
def test_what_is_a_label_already_stays(value: str) -> None:
    assert label_safe(value) == value


def test_two_users_never_share_a_label() -> None:
    users = ["a b", "a/b", "a_b", "ä", "ö", "", " ", "x" * 64, "x" * 65, "a@example.com", "a@example.org"]
    assert len({label_safe(user) for user in users}) == len(users)


def test_only_its_own_deployment_is_taken_over() -> None:
    wanted = spec()
    metadata = deployment_manifest(wanted, "image")["metadata"]

    def standing(**changes: str) -> Deployment:
        labels = {**metadata["labels"], **changes}
        return Deployment(metadata=ObjectMeta(labels=labels, annotations=metadata["annotations"]))

    assert is_of(standing(), wanted)
    assert is_of(standing(user_id="whatever"), wanted)
    assert not is_of(standing(simulator_id="another"), wanted)
    assert not is_of(standing(**{"session-db": "another"}), wanted)
    assert not is_of(standing(**{"managed-by": "somebody"}), wanted)
    assert not is_of(standing(), spec(token="another"))
    assert not is_of(Deployment(metadata=ObjectMeta()), wanted)


def test_the_selector_names_the_database() -> None:
    assert label_selector(DATABASE) == f"managed-by=session-service,session-db={DATABASE}"
