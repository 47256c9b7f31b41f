"""KubernetesClient against an API server over real HTTP: what each answer, and each lack of one, means."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from session_service.clients.circuit_breaker import BreakerState
from session_service.clients.kubernetes import KubernetesClient
from session_service.clients.kubernetes_access import load_access
from session_service.clients.kubernetes_types import DEPLOYMENTS, PODS, Deployment
from session_service.clients.kubernetes_watch import list_all
from session_service.clients.probed_socket import FIRST_PROBE_S
from session_service.errors import (
    BackendRefusedError,
    BackendUnavailableError,
    ConfigurationError,
    KubernetesConflictError,
    KubernetesExpiredError,
)
from session_service.simulators.kubernetes_objects import Manifest, deployment_manifest, label_selector
from session_service.telemetry.metrics import Metrics
from tests.support.fake_kubernetes.cluster import Cluster, Fate, fake_cluster
from tests.support.fake_kubernetes.mishaps import Mishap
from tests.support.kubernetes_parts import DATABASE, connected_client, spec
from tests.support.waiting import eventually

SELECTOR = label_selector(DATABASE)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with fake_cluster() as made:
        made.fate = Fate.NEVER
        yield made


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client(cluster: Cluster, tmp_path: Path, metrics: Metrics) -> AsyncIterator[KubernetesClient]:
    async with connected_client(cluster, tmp_path, metrics=metrics) as made:
        yield made


def manifest(simulator_id: str) -> Manifest:
    return deployment_manifest(spec(simulator_id), "image")


def counted(metrics: Metrics, operation: str, status: str) -> float:
    labels = {"service": "kubernetes", "operation": operation, "status": status}
    return metrics.registry.get_sample_value("session_external_service_requests_total", labels) or 0.0


async def test_an_object_is_created_read_and_removed(client: KubernetesClient, metrics: Metrics) -> None:
    made = await client.create(DEPLOYMENTS, manifest("a"))
    assert await client.get(DEPLOYMENTS, "simulator-a") == made
    assert await client.delete(DEPLOYMENTS, "simulator-a", uid=made.metadata.uid)
    assert await client.get(DEPLOYMENTS, "simulator-b") is None
    assert not await client.delete(DEPLOYMENTS, "simulator-b", uid="any")
    assert counted(metrics, "create_deployments", "ok") == 1
    assert counted(metrics, "get_deployments", "ok") == 2


async def test_a_name_that_is_taken_and_a_uid_that_is_not_there(client: KubernetesClient) -> None:
    await client.create(DEPLOYMENTS, manifest("a"))
    with pytest.raises(KubernetesConflictError) as taken:
        await client.create(DEPLOYMENTS, manifest("a"))
    assert taken.value.reason == "AlreadyExists"
    with pytest.raises(KubernetesConflictError) as another:
        await client.delete(DEPLOYMENTS, "simulator-a", uid="another")
    assert another.value.reason == "Conflict"
    assert await client.get(DEPLOYMENTS, "simulator-a") is not None


async def test_what_is_invalid_or_forbidden_is_refused_with_its_reason(client: KubernetesClient) -> None:
    wrong = manifest("a")
    wrong["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    with pytest.raises(BackendRefusedError) as invalid:
        await client.create(DEPLOYMENTS, wrong)
    assert invalid.value.reason == "Invalid"
    assert "image: required" in invalid.value.detail
    with pytest.raises(BackendRefusedError) as forbidden:
        await client.create(PODS, manifest("a"))
    assert forbidden.value.reason == "Forbidden"


async def test_a_token_that_is_not_known_is_no_refusal_for_ever(cluster: Cluster, tmp_path: Path) -> None:
    async with connected_client(cluster, tmp_path, token="another") as stranger:
        with pytest.raises(BackendUnavailableError) as refused:
            await stranger.get(DEPLOYMENTS, "simulator-a")
        assert not isinstance(refused.value, BackendRefusedError)


async def test_a_throttled_call_is_made_again_when_the_server_says(
    cluster: Cluster, client: KubernetesClient, metrics: Metrics
) -> None:
    cluster.api.mishaps.add(Mishap(verb="create", status=429, retry_after="1"))
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    await client.create(DEPLOYMENTS, manifest("a"))
    assert loop.time() - begun_s >= 1.0
    assert [call.status for call in cluster.api.calls("create")] == [429, 201]
    assert counted(metrics, "create_deployments", "throttled") == 1


async def test_a_server_that_asks_for_too_much_patience_is_away(cluster: Cluster, client: KubernetesClient) -> None:
    cluster.api.mishaps.add(Mishap(status=429, retry_after="3600"))
    with pytest.raises(BackendUnavailableError, match="not available") as throttled:
        await client.get(DEPLOYMENTS, "simulator-a")
    assert "3600" in throttled.value.detail
    assert throttled.value.retry_after_s == 3600


@pytest.mark.parametrize(
    "mishap",
    [
        Mishap(status=500),
        Mishap(status=503, retry_after="1"),
        Mishap(status=301),
        # Twice: aiohttp makes a GET again by itself where a kept connection was cut.
        Mishap(request_lost=True, times=2),
        Mishap(reply_lost=True, times=2),
        Mishap(status=200, body=b"<html>a proxy's page</html>"),
        Mishap(status=200, body=b"{}"),
        Mishap(status=502, body=b"\xff\xfe"),
    ],
)
async def test_whatever_is_no_answer_is_the_same_to_the_caller(
    cluster: Cluster, client: KubernetesClient, mishap: Mishap
) -> None:
    await client.create(DEPLOYMENTS, manifest("a"))
    cluster.api.mishaps.add(mishap)
    with pytest.raises(BackendUnavailableError):
        await client.get(DEPLOYMENTS, "simulator-a")
    assert await client.get(DEPLOYMENTS, "simulator-a") is not None


async def test_a_change_whose_reply_is_lost_has_been_made(cluster: Cluster, client: KubernetesClient) -> None:
    cluster.api.mishaps.add(Mishap(verb="create", reply_lost=True))
    with pytest.raises(BackendUnavailableError):
        await client.create(DEPLOYMENTS, manifest("a"))
    assert await client.get(DEPLOYMENTS, "simulator-a") is not None


async def test_a_change_says_until_when_it_may_take_effect(cluster: Cluster, client: KubernetesClient) -> None:
    made = await client.create(DEPLOYMENTS, manifest("a"))
    await client.delete(DEPLOYMENTS, "simulator-a", uid=made.metadata.uid)
    assert [call.query["timeout"] for call in cluster.api.journal] == ["5s", "5s"]


async def test_a_server_that_fails_is_left_alone_for_a_while(
    cluster: Cluster, client: KubernetesClient, metrics: Metrics
) -> None:
    cluster.api.mishaps.add(Mishap(status=500, times=5))
    for _ in range(5):
        with pytest.raises(BackendUnavailableError):
            await client.get(DEPLOYMENTS, "simulator-a")
    with pytest.raises(BackendUnavailableError):
        await client.get(DEPLOYMENTS, "simulator-a")
    assert len(cluster.api.journal) == 5
    state = metrics.registry.get_sample_value("session_circuit_breaker_state", {"service": "kubernetes"})
    assert state == BreakerState.OPEN
    assert counted(metrics, "get_deployments", "open") == 1


async def test_refusals_do_not_open_the_breaker(client: KubernetesClient, metrics: Metrics) -> None:
    for _ in range(10):
        with pytest.raises(BackendRefusedError):
            await client.create(PODS, manifest("a"))
    state = metrics.registry.get_sample_value("session_circuit_breaker_state", {"service": "kubernetes"})
    assert state == BreakerState.CLOSED


async def test_a_list_comes_in_pages(cluster: Cluster, client: KubernetesClient) -> None:
    for number in range(7):
        await client.create(DEPLOYMENTS, manifest(f"s{number}"))
    await client.create(DEPLOYMENTS, deployment_manifest(spec("other", database_id="another"), "image"))
    first = await client.list_page(DEPLOYMENTS, SELECTOR, limit=3)
    assert [item.metadata.name for item in first.items] == ["simulator-s0", "simulator-s1", "simulator-s2"]
    second = await client.list_page(DEPLOYMENTS, SELECTOR, limit=3, continue_from=first.metadata.continue_)
    assert [item.metadata.name for item in second.items] == ["simulator-s3", "simulator-s4", "simulator-s5"]
    items, version = await list_all(client, DEPLOYMENTS, SELECTOR)
    assert len(items) == 7
    assert version == str(cluster.store.version)


async def test_a_page_that_is_asked_for_too_late_has_expired(cluster: Cluster, client: KubernetesClient) -> None:
    for number in range(3):
        await client.create(DEPLOYMENTS, manifest(f"s{number}"))
    first = await client.list_page(DEPLOYMENTS, SELECTOR, limit=1)
    await client.create(DEPLOYMENTS, manifest("s4"))
    cluster.store.compact()
    with pytest.raises(KubernetesExpiredError):
        await client.list_page(DEPLOYMENTS, SELECTOR, limit=1, continue_from=first.metadata.continue_)


async def test_a_watch_tells_what_comes_after_its_version(cluster: Cluster, client: KubernetesClient) -> None:
    before = str(cluster.store.version)
    made = await client.create(DEPLOYMENTS, manifest("a"))
    seen: list[tuple[str, str]] = []
    async for event in client.watch(DEPLOYMENTS, SELECTOR, before, timeout_s=1, silence_limit_s=5):
        item: Deployment = DEPLOYMENTS.item.decode(event.object)
        seen.append((event.type, item.metadata.resource_version))
    assert seen[0] == ("ADDED", made.metadata.resource_version)
    assert {type_ for type_, _ in seen[1:]} == {"BOOKMARK"}


async def test_an_event_may_come_in_many_pieces_and_several_in_one(
    client: KubernetesClient, cluster: Cluster
) -> None:
    before = str(cluster.store.version)
    for number in range(3):
        large = manifest(f"s{number}")
        large["metadata"]["annotations"]["notes"] = "\N{EURO SIGN}" * 100_000  # beyond any buffer of the connection
        await client.create(DEPLOYMENTS, large)
    names = []
    async for event in client.watch(DEPLOYMENTS, SELECTOR, before, timeout_s=1, silence_limit_s=5):
        if event.type == "ADDED":
            item = DEPLOYMENTS.item.decode(event.object)
            names.append(item.metadata.name)
            assert len((item.metadata.annotations or {})["notes"]) == 100_000
    assert names == ["simulator-s0", "simulator-s1", "simulator-s2"]


async def test_a_watch_from_a_version_that_is_gone_has_expired(cluster: Cluster, client: KubernetesClient) -> None:
    before = str(cluster.store.version)
    await client.create(DEPLOYMENTS, manifest("a"))
    cluster.store.compact()
    with pytest.raises(KubernetesExpiredError):
        await anext(client.watch(DEPLOYMENTS, SELECTOR, before, timeout_s=5, silence_limit_s=5))


async def test_a_silent_watch_is_given_up(cluster: Cluster, client: KubernetesClient) -> None:
    cluster.api.mishaps.add(Mishap(verb="watch", silent=True))
    version = str(cluster.store.version)
    with pytest.raises(BackendUnavailableError):
        await anext(client.watch(DEPLOYMENTS, SELECTOR, version, timeout_s=30, silence_limit_s=0.3))


async def test_no_call_takes_longer_than_its_limit(
    cluster: Cluster, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_service.clients.kubernetes.CALL_LIMIT_S", 0.3)
    held = asyncio.Event()
    cluster.api.mishaps.add(Mishap(held=held))
    with pytest.raises(BackendUnavailableError):
        async with asyncio.timeout(8):  # less than the limit that was replaced
            await client.get(DEPLOYMENTS, "simulator-a")
    held.set()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's timers are looked at in /proc")
async def test_a_watch_asks_whether_its_server_is_still_there(cluster: Cluster, client: KubernetesClient) -> None:
    watch = client.watch(DEPLOYMENTS, "app=x", str(cluster.store.version), timeout_s=20, silence_limit_s=20)
    async with contextlib.aclosing(watch) as events:
        assert (await anext(events)).type == "BOOKMARK"

        async def keepalive_is_due_in_s() -> float | None:
            return keepalive_timer_s(URL(cluster.api.url).port or 0)

        due_in_s = await eventually(keepalive_is_due_in_s, within_s=5, what="a keepalive timer")
        assert due_in_s is not None
        assert due_in_s <= FIRST_PROBE_S


def keepalive_timer_s(port: int) -> float | None:
    """Seconds until the connection to this port of 127.0.0.1 is probed; None while another timer runs (proc(5))."""
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        kind, _, ticks = fields[5].partition(":")
        if fields[2].endswith(f":{port:04X}") and fields[3] == "01" and kind == "02":
            return int(ticks, 16) / os.sysconf("SC_CLK_TCK")
    return None


@pytest.mark.parametrize("content", [None, "", "not: [yaml", "clusters: []"])
async def test_a_kubeconfig_that_is_none_is_said_at_the_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="KUBECONFIG"):
        await load_access({"KUBECONFIG": str(path)})


async def test_without_kubeconfig_the_one_at_home_is_read(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    cluster.kubeconfig(tmp_path / ".kube" / "config")
    access = await load_access({"HOME": str(tmp_path)})
    assert access.url == cluster.api.url
