"""The API server as a Pod finds it: TLS by the cluster's authority, a service account's token that is replaced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from yarl import URL

from session_service.clients.kubernetes import KubernetesClient
from session_service.clients.kubernetes_access import load_access
from session_service.clients.kubernetes_types import DEPLOYMENTS
from session_service.errors import BackendUnavailableError, ConfigurationError
from session_service.telemetry.metrics import Metrics
from tests.support.certificates import serving_tls
from tests.support.fake_kubernetes.cluster import NAMESPACE, TOKEN, Cluster, fake_cluster


@pytest.fixture
def service_account(tmp_path: Path) -> Path:
    """The folder that a kubelet mounts. The authority's certificate comes with the cluster."""
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    return tmp_path


@pytest.fixture
async def cluster(service_account: Path) -> AsyncIterator[Cluster]:
    async with fake_cluster(tls=serving_tls(service_account)) as made:
        yield made


@contextlib.asynccontextmanager
async def client_in(cluster: Cluster, service_account: Path) -> AsyncIterator[KubernetesClient]:
    port = str(URL(cluster.api.url).port)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
    client = KubernetesClient(
        NAMESPACE,
        load_access=lambda: load_access(environ, service_account=service_account),
        metrics=Metrics(),
        clock=asyncio.get_running_loop().time,
    )
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def test_the_service_account_is_what_it_calls_with(cluster: Cluster, service_account: Path) -> None:
    async with client_in(cluster, service_account) as client:
        assert await client.get(DEPLOYMENTS, "simulator-a") is None
    assert [call.status for call in cluster.api.journal] == [404]


async def test_a_server_of_another_authority_never_sees_the_token(
    cluster: Cluster, service_account: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    another = tmp_path_factory.mktemp("another")
    serving_tls(another)
    (another / "token").write_text(TOKEN, encoding="utf-8")
    async with client_in(cluster, another) as client:
        with pytest.raises(BackendUnavailableError) as refused:
            await client.get(DEPLOYMENTS, "simulator-a")
        assert "certificate" in refused.value.detail.lower()
    assert cluster.api.journal == []


async def test_a_token_that_was_replaced_is_read_anew_when_the_old_one_is_refused(
    cluster: Cluster, service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_service.clients.kubernetes.ACCESS_AGAIN_S", 0.0)
    async with client_in(cluster, service_account) as client:
        assert await client.get(DEPLOYMENTS, "simulator-a") is None
        cluster.api.tokens["the-next-token"] = cluster.api.tokens.pop(TOKEN)
        (service_account / "token").write_text("the-next-token", encoding="utf-8")
        with pytest.raises(BackendUnavailableError):
            await client.get(DEPLOYMENTS, "simulator-a")
        assert await client.get(DEPLOYMENTS, "simulator-a") is None
    assert [call.status for call in cluster.api.journal] == [404, 401, 404]


async def test_credentials_that_cannot_be_loaded_anew_are_asked_for_again(
    cluster: Cluster, service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_service.clients.kubernetes.ACCESS_AGAIN_S", 0.0)
    async with client_in(cluster, service_account) as client:
        cluster.api.tokens["the-next-token"] = cluster.api.tokens.pop(TOKEN)
        (service_account / "token").unlink()
        for _ in range(2):
            with pytest.raises(BackendUnavailableError):
                await client.get(DEPLOYMENTS, "simulator-a")
        (service_account / "token").write_text("the-next-token", encoding="utf-8")
        with pytest.raises(BackendUnavailableError):
            await client.get(DEPLOYMENTS, "simulator-a")
        assert await client.get(DEPLOYMENTS, "simulator-a") is None


async def test_a_token_is_read_again_in_time_and_one_that_is_being_written_is_waited_for(
    cluster: Cluster, service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubernetes_asyncio.config.incluster_config.TOKEN_REFRESH_PERIOD", timedelta(0))
    async with client_in(cluster, service_account) as client:
        cluster.api.tokens["the-next-token"] = cluster.api.tokens.pop(TOKEN)
        (service_account / "token").write_text("", encoding="utf-8")
        with pytest.raises(BackendUnavailableError):
            await client.get(DEPLOYMENTS, "simulator-a")
        (service_account / "token").write_text("the-next-token", encoding="utf-8")
        assert await client.get(DEPLOYMENTS, "simulator-a") is None
    assert [call.status for call in cluster.api.journal] == [404]


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_a_service_account_that_is_not_mounted_is_said_at_the_start(
    cluster: Cluster, service_account: Path, missing: str
) -> None:
    (service_account / missing).unlink()
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(URL(cluster.api.url).port)}
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST"):
        await load_access(environ, service_account=service_account)
