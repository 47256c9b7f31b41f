"""The backend ``kubernetes`` against a cluster's API over real HTTP, and everything that may happen to its calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from session_service.errors import BackendRefusedError, BackendUnavailableError
from session_service.simulators.backend import WorkloadPhase, WorkloadSpec
from session_service.simulators.kubernetes_backend import KubernetesBackend
from session_service.simulators.kubernetes_objects import label_safe
from tests.support.fake_kubernetes.cluster import NAMESPACE, Cluster, Fate, fake_cluster
from tests.support.fake_kubernetes.mishaps import Mishap
from tests.support.fake_kubernetes.object_store import Key
from tests.support.kubernetes_parts import DATABASE, SESSION, SOON_S, TIMES, FollowedBackend, followed_backend, spec
from tests.support.waiting import eventually


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with fake_cluster() as made:
        yield made


@pytest.fixture
async def followed(cluster: Cluster, tmp_path: Path) -> AsyncIterator[FollowedBackend]:
    async with followed_backend(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def backend(followed: FollowedBackend) -> KubernetesBackend:
    return followed.backend


async def becomes_empty(cluster: Cluster) -> None:
    async def empty() -> bool:
        return cluster.is_empty()

    await eventually(empty, within_s=SOON_S, what="nothing is left in the namespace")


# --- the way of one simulator --------------------------------------------------------------------------------------


async def test_created_ready_and_gone(cluster: Cluster, followed: FollowedBackend) -> None:
    backend = followed.backend
    made = await backend.create(spec("a"))
    assert (made.phase, made.endpoint) == (WorkloadPhase.PENDING, None)
    ready = await followed.told_of("a", "READY")
    assert ready.endpoint == f"simulator-a.{NAMESPACE}.svc.cluster.local:50055"
    assert ready == await backend.get("a") == backend.observed("a")
    assert [ready] == await backend.list(DATABASE)
    assert await backend.delete("a", ready.uid)
    assert cluster.is_empty()
    await followed.told_of("a", "FAILED", "gone")
    assert await backend.get("a") is None
    assert backend.observed("a") is None
    assert await backend.list(DATABASE) == []


async def test_readiness_is_told_not_asked_for(cluster: Cluster, followed: FollowedBackend) -> None:
    for number in range(20):
        await followed.backend.create(spec(f"s{number}"))
    for number in range(20):
        await followed.told_of(f"s{number}", "READY")
    assert cluster.api.calls("get") == []
    assert len(cluster.api.calls("list")) == 2  # one for each watch
    assert len(cluster.api.calls("watch")) == 2


@pytest.mark.parametrize(
    ("fate", "phase"),
    [
        (Fate.IMAGE, "PENDING"),
        (Fate.NO_NODE, "PENDING"),
        (Fate.CONFIG, "PENDING"),
        (Fate.QUOTA, "PENDING"),
        (Fate.MEMORY, "FAILED"),
        (Fate.CRASH, "FAILED"),
    ],
)
async def test_what_keeps_it_from_starting_is_said(
    cluster: Cluster, followed: FollowedBackend, fate: Fate, phase: str
) -> None:
    cluster.fate = fate
    await followed.backend.create(spec("a"))
    told = await followed.told_of("a", phase, fate.value)
    assert told == await followed.backend.get("a")
    assert await followed.backend.delete("a", told.uid)


async def test_an_evicted_pod_is_replaced(cluster: Cluster, followed: FollowedBackend) -> None:
    await followed.backend.create(spec("a"))
    before = await followed.told_of("a", "READY")
    followed.told.clear()
    await cluster.evict("simulator-a")
    assert await followed.told_of("a", "READY") == before
    assert len(cluster.pods()) == 2  # the evicted one stays to be looked at


async def test_a_spare_becomes_a_sessions_and_its_pod_is_left_alone(
    cluster: Cluster, followed: FollowedBackend
) -> None:
    backend = followed.backend
    await backend.create(WorkloadSpec.spare("a", "token-of-a", DATABASE))
    ready = await followed.told_of("a", "READY")
    pods = cluster.pods()
    template = cluster.deployments()["simulator-a"]["spec"]["template"]
    await backend.assign("a", ready.uid, SESSION, "user 1")
    for found in (cluster.deployments()["simulator-a"], cluster.services()["simulator-a"]):
        labels = found["metadata"]["labels"]
        assert (labels["session_id"], labels["user_id"]) == (SESSION, label_safe("user 1"))
        assert labels["session-db"] == DATABASE
    assert cluster.deployments()["simulator-a"]["spec"]["template"] == template
    assert await backend.get("a") == msgspec.structs.replace(ready, session_id=SESSION)
    assert cluster.pods() == pods
    assert [call.status for call in cluster.api.journal if call.status >= 400] == []


async def test_a_spare_that_has_gone_or_is_anothers_is_not_touched(
    cluster: Cluster, followed: FollowedBackend
) -> None:
    backend = followed.backend
    await backend.assign("a", "uid", SESSION, "user-1")
    await backend.create(WorkloadSpec.spare("a", "token-of-a", DATABASE))
    await followed.told_of("a", "READY")
    with pytest.raises(BackendRefusedError) as refused:
        await backend.assign("a", "another uid", SESSION, "user-1")
    assert refused.value.reason == "Invalid"
    assert cluster.deployments()["simulator-a"]["metadata"]["labels"]["session_id"] == ""


# --- made twice, cut short, or another's ---------------------------------------------------------------------------


async def test_a_create_that_is_made_again_finds_what_it_made(cluster: Cluster, backend: KubernetesBackend) -> None:
    first = await backend.create(spec("a"))
    again = await backend.create(spec("a"))
    assert again.uid == first.uid
    assert len(cluster.deployments()) == len(cluster.services()) == 1


@pytest.mark.parametrize("plural", ["deployments", "services"])
@pytest.mark.parametrize(
    "mishap", [Mishap(request_lost=True), Mishap(reply_lost=True), Mishap(status=500), Mishap(status=503)]
)
async def test_a_create_that_failed_at_either_call_is_completed(
    cluster: Cluster, backend: KubernetesBackend, plural: str, mishap: Mishap
) -> None:
    cluster.api.mishaps.add(msgspec.structs.replace(mishap, verb="create", plural=plural))
    with pytest.raises(BackendUnavailableError):
        await backend.create(spec("a"))
    made = await backend.create(spec("a"))
    assert list(cluster.deployments()) == list(cluster.services()) == ["simulator-a"]
    (owner,) = cluster.services()["simulator-a"]["metadata"]["ownerReferences"]
    assert owner["uid"] == made.uid


async def test_a_lone_deployment_is_partial_until_the_create_is_made_again(
    cluster: Cluster, followed: FollowedBackend
) -> None:
    backend = followed.backend
    cluster.api.mishaps.add(Mishap(verb="create", plural="services", request_lost=True))
    with pytest.raises(BackendUnavailableError):
        await backend.create(spec("a"))
    partial = await backend.get("a")
    assert partial is not None
    assert partial.phase is WorkloadPhase.PARTIAL
    await backend.create(spec("a"))
    await followed.told_of("a", "READY")
    whole = await backend.get("a")
    assert whole is not None
    assert (whole.phase, whole.uid) == (WorkloadPhase.READY, partial.uid)


@pytest.mark.parametrize("change", [{"database_id": "another-database"}, {"token": "another"}])
async def test_what_has_its_name_and_is_not_its_own_is_left_alone(
    cluster: Cluster, backend: KubernetesBackend, change: dict[str, str]
) -> None:
    await backend.create(msgspec.structs.replace(spec("a"), **change))
    with pytest.raises(BackendRefusedError) as refused:
        await backend.create(spec("a"))
    assert refused.value.reason == "NameTaken"
    assert "deletionTimestamp" not in cluster.deployments()["simulator-a"]["metadata"]


async def test_what_is_being_removed_is_not_taken_over(cluster: Cluster, tmp_path: Path) -> None:
    async with followed_backend(cluster, tmp_path, departure_wait_s=0.05) as followed:
        backend = followed.backend
        first = await backend.create(spec("a"))
        cluster.collecting = False
        assert not await backend.delete("a", first.uid)
        assert (await backend.create(spec("a"))).phase is WorkloadPhase.ENDING
        ending = await backend.get("a")
        assert ending is not None
        assert (ending.phase, ending.uid) == (WorkloadPhase.ENDING, first.uid)
        cluster.collecting = True
        await becomes_empty(cluster)
        assert (await backend.create(spec("a"))).uid != first.uid


async def test_a_service_that_a_predecessor_left_is_not_taken_for_ones_own(
    cluster: Cluster, backend: KubernetesBackend
) -> None:
    cluster.collecting = False
    first = await backend.create(spec("a"))
    cluster.store.remove(Key("deployments", NAMESPACE, "simulator-a"))
    with pytest.raises(BackendUnavailableError):
        await backend.create(spec("a"))
    cluster.collecting = True

    async def created() -> str | None:
        try:
            return (await backend.create(spec("a"))).uid
        except BackendUnavailableError:
            return None

    assert await eventually(created, within_s=SOON_S, what="the old Service is collected") != first.uid


async def test_what_the_api_server_refuses_does_not_show_the_token(
    cluster: Cluster, backend: KubernetesBackend
) -> None:
    quoting = b'{"reason": "Forbidden", "message": "denied: SIMULATOR_TOKEN=token-of-a is odd"}'
    cluster.api.mishaps.add(Mishap(verb="create", status=403, body=quoting))
    with pytest.raises(BackendRefusedError) as refused:
        await backend.create(spec("a"))
    assert "denied" in refused.value.detail
    assert "token-of-a" not in refused.value.detail


# --- removal -------------------------------------------------------------------------------------------------------


async def test_a_successor_of_the_same_name_is_never_removed(cluster: Cluster, backend: KubernetesBackend) -> None:
    first = await backend.create(spec("a"))
    assert await backend.delete("a", first.uid)
    second = await backend.create(spec("a"))
    assert await backend.delete("a", first.uid)  # it is gone, whatever else stands there
    assert cluster.deployments()["simulator-a"]["metadata"]["uid"] == second.uid
    assert await backend.delete("a", None)
    assert cluster.deployments() == {}


async def test_a_delete_of_what_is_replaced_meanwhile_hits_nobody(
    cluster: Cluster, backend: KubernetesBackend
) -> None:
    first = await backend.create(spec("a"))
    held = asyncio.Event()
    cluster.api.mishaps.add(Mishap(verb="delete", held=held))
    deleting = asyncio.create_task(backend.delete("a", first.uid))

    async def on_its_way() -> bool:
        return not cluster.api.mishaps.waiting

    await eventually(on_its_way, within_s=SOON_S, what="the delete has been sent")
    cluster.store.remove(Key("deployments", NAMESPACE, "simulator-a"))

    async def collected() -> bool:
        return not cluster.services()

    await eventually(collected, within_s=SOON_S, what="its Service is gone")
    second = await backend.create(spec("a"))
    held.set()
    assert await deleting
    assert cluster.deployments()["simulator-a"]["metadata"]["uid"] == second.uid


async def test_gone_means_that_pod_and_service_are_gone_too(tmp_path: Path) -> None:
    async with fake_cluster(grace_s=0.3) as cluster, followed_backend(cluster, tmp_path) as followed:
        made = await followed.backend.create(spec("a"))
        await followed.told_of("a", "READY")
        assert await followed.backend.delete("a", made.uid)
        assert cluster.is_empty()


@pytest.mark.parametrize(
    "mishap", [Mishap(request_lost=True, times=2), Mishap(reply_lost=True, times=2), Mishap(status=500)]
)
async def test_a_delete_that_failed_is_made_again(
    cluster: Cluster, backend: KubernetesBackend, mishap: Mishap
) -> None:
    made = await backend.create(spec("a"))
    cluster.api.mishaps.add(msgspec.structs.replace(mishap, verb="delete"))
    with pytest.raises(BackendUnavailableError):
        await backend.delete("a", made.uid)
    assert await backend.delete("a", made.uid)
    assert cluster.is_empty()


async def test_what_is_not_there_is_gone(backend: KubernetesBackend) -> None:
    assert await backend.delete("a", "whatever")
    assert await backend.delete("a", None)


# --- whose is whose ------------------------------------------------------------------------------------------------


async def test_a_copied_database_touches_nothing_of_the_original(cluster: Cluster, tmp_path: Path) -> None:
    """Its rows name the same simulators."""
    (tmp_path / "beside").mkdir()
    async with (
        followed_backend(cluster, tmp_path) as original,
        followed_backend(cluster, tmp_path / "beside", database_id="a copy with an id of its own") as copied,
    ):
        made = await original.backend.create(spec("a"))
        assert await copied.backend.get("a") is None
        assert await copied.backend.delete("a", None)
        assert await copied.backend.delete("a", made.uid)
        assert await original.told_of("a", "READY") == await original.backend.get("a")


async def test_another_databases_workloads_are_neither_listed_nor_told_of(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    async with (
        followed_backend(cluster, tmp_path) as ours,
        followed_backend(cluster, tmp_path / "beside", database_id="another") as beside,
    ):
        await ours.backend.create(spec("a"))
        await beside.backend.create(spec("b", database_id="another"))
        await ours.told_of("a", "READY")
        await beside.told_of("b", "READY")
        assert {one.simulator_id for one in ours.told} == {"a"}
        assert [one.simulator_id for one in await ours.backend.list(DATABASE)] == ["a"]
        assert [one.simulator_id for one in await beside.backend.list("another")] == ["b"]


# --- watches that fail ---------------------------------------------------------------------------------------------


def outcomes(followed: FollowedBackend, outcome: str) -> float:
    registry = followed.metrics.registry
    return sum(
        registry.get_sample_value("session_kubernetes_watches_total", {"resource": resource, "outcome": outcome})
        or 0.0
        for resource in ("deployments", "pods")
    )


@pytest.mark.parametrize(
    "mishaps",
    [
        [Mishap(verb="watch", status=410, times=2)],
        [Mishap(verb="watch", expired_event=True, times=2)],
        [Mishap(verb="watch", status=500, times=3)],
        [Mishap(verb="watch", status=429, retry_after="1", times=2)],
        [Mishap(verb="watch", request_lost=True, times=6)],
        [Mishap(verb="watch", silent=True, times=2)],
        [Mishap(verb="watch", status=410, times=2), Mishap(verb="list", status=500, times=3)],
        [Mishap(verb="watch", status=200, body=b"not an event\n", times=3)],
    ],
    ids=["410", "410 as an event", "500", "429", "cut", "silent", "410 and lists fail", "garbage"],
)
async def test_what_happened_while_a_watch_was_away_is_told(
    cluster: Cluster, followed: FollowedBackend, mishaps: list[Mishap]
) -> None:
    first = await followed.backend.create(spec("a"))
    await followed.told_of("a", "READY")
    for mishap in mishaps:
        cluster.api.mishaps.add(mishap)
    cluster.api.cut_watches()
    followed.told.clear()
    await followed.backend.create(spec("b"))
    cluster.store.mark_ending(Key("deployments", NAMESPACE, "simulator-a"), finalizer="foregroundDeletion")
    await followed.told_of("b", "READY")
    gone = await followed.told_of("a", "FAILED", "gone")
    assert gone.uid == first.uid


async def test_a_history_that_was_compacted_while_a_watch_was_away_is_made_up_for(
    cluster: Cluster, followed: FollowedBackend
) -> None:
    await followed.backend.create(spec("a"))
    await followed.told_of("a", "READY")
    held = asyncio.Event()
    cluster.api.mishaps.add(Mishap(verb="watch", held=held, times=2))
    cluster.api.cut_watches()
    await followed.backend.create(spec("b"))

    async def ready() -> bool:
        workload = await followed.backend.get("b")
        return workload is not None and workload.phase is WorkloadPhase.READY

    await eventually(ready, within_s=SOON_S, what="b is ready")
    cluster.store.remove(Key("deployments", NAMESPACE, "simulator-a"))
    cluster.store.compact()
    held.set()
    await followed.told_of("b", "READY")
    await followed.told_of("a", "FAILED", "gone")
    assert outcomes(followed, "expired") == 2


async def test_a_silent_watch_is_noticed_and_its_word_not_taken_meanwhile(cluster: Cluster, tmp_path: Path) -> None:
    times = msgspec.structs.replace(TIMES, silence_limit_s=0.5)
    async with followed_backend(cluster, tmp_path, times=times) as followed:
        await followed.backend.create(spec("a"))
        await followed.told_of("a", "READY")
        assert followed.backend.observed("a") is not None
        cluster.api.mishaps.add(Mishap(verb="watch", silent=True, times=100))
        cluster.api.cut_watches()

        async def unsure() -> bool:
            return followed.backend.observed("a") is None

        await eventually(unsure, within_s=SOON_S, what="what was observed is too old")

        async def noticed() -> bool:
            return outcomes(followed, "failed") >= 4

        await eventually(noticed, within_s=SOON_S, what="the silence of both is noticed")
        cluster.api.mishaps.clear()

        async def sure() -> bool:
            return followed.backend.observed("a") is not None

        await eventually(sure, within_s=SOON_S, what="both watches tell again")


async def test_bookmarks_are_a_sign_of_life(cluster: Cluster, tmp_path: Path) -> None:
    times = msgspec.structs.replace(TIMES, silence_limit_s=0.6)
    async with followed_backend(cluster, tmp_path, times=times) as followed:
        registry = followed.metrics.registry
        name = "session_kubernetes_watch_heard_timestamp_seconds"

        async def heard(since: float) -> bool:
            return (registry.get_sample_value(name, {"resource": "pods"}) or 0.0) > since + 1.0

        begun = registry.get_sample_value(name, {"resource": "pods"}) or 0.0
        await eventually(lambda: heard(begun), within_s=SOON_S, what="it hears of a quiet namespace")
        assert outcomes(followed, "failed") == 0
        assert len(cluster.api.calls("watch")) == 2


async def test_a_watch_that_the_server_ends_goes_on_from_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    times = msgspec.structs.replace(TIMES, watch_s=1.0)
    async with followed_backend(cluster, tmp_path, times=times) as followed:

        async def ended() -> bool:
            return outcomes(followed, "ended") >= 2

        await eventually(ended, within_s=SOON_S, what="both have been ended")
        await followed.backend.create(spec("a"))
        await followed.told_of("a", "READY")
        assert len(cluster.api.calls("list")) == 2
        assert outcomes(followed, "failed") == 0


async def test_an_api_server_that_restarts_is_found_again(cluster: Cluster, followed: FollowedBackend) -> None:
    await followed.backend.create(spec("a"))
    await followed.told_of("a", "READY")
    await cluster.api.__aexit__()
    with pytest.raises(BackendUnavailableError):
        await followed.backend.get("a")
    await cluster.api.__aenter__()
    await followed.backend.create(spec("b"))
    await followed.told_of("b", "READY")


# --- rights --------------------------------------------------------------------------------------------------------


async def test_every_call_is_within_the_shipped_rights(cluster: Cluster, followed: FollowedBackend) -> None:
    made = await followed.backend.create(spec("a"))
    await followed.backend.create(spec("a"))
    await followed.told_of("a", "READY")
    await followed.backend.get("a")
    await followed.backend.list(DATABASE)
    assert await followed.backend.delete("a", made.uid)
    assert [call for call in cluster.api.journal if call.status in {401, 403}] == []
    assert {(call.verb, call.plural) for call in cluster.api.journal} == {
        *((verb, "deployments") for verb in ("create", "get", "list", "watch", "delete")),
        *((verb, "services") for verb in ("create", "get")),
        *((verb, "pods") for verb in ("list", "watch")),
    }
