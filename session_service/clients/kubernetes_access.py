"""How the API server is reached and who we are to it: the cluster's own service account, or a kubeconfig file."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from session_service.errors import BackendUnavailableError, ConfigurationError

if TYPE_CHECKING:  # at run time only where this backend is configured: the import takes 0.7 s and 40 MB
    from kubernetes_asyncio.client import Configuration

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
IN_CLUSTER_VARIABLE = "KUBERNETES_SERVICE_HOST"  # set by the kubelet in every container


class ApiAccess(msgspec.Struct, frozen=True):
    """``authorization`` gives the header's present value: a service account's token is replaced every hour or so.

    It raises BackendUnavailableError where there is none at present.
    """

    url: str
    tls: ssl.SSLContext | None
    server_hostname: str | None
    proxy: str | None
    authorization: Callable[[], Awaitable[str | None]]


async def load_access(environ: Mapping[str, str], *, service_account: Path = SERVICE_ACCOUNT) -> ApiAccess:
    """In a cluster its service account; else the files that KUBECONFIG names, else ~/.kube/config.

    A kubeconfig may run a program to get a token; there is no limit to its time here. Raises ConfigurationError.
    """
    in_cluster = bool(environ.get(IN_CLUSTER_VARIABLE))
    kubeconfig = environ.get("KUBECONFIG") or f"{environ.get('HOME', '')}/.kube/config"
    try:
        configuration = await asyncio.to_thread(_empty_configuration)
        if in_cluster:
            await asyncio.to_thread(_from_service_account, configuration, environ, service_account)
        else:
            await _from_kubeconfig(configuration, kubeconfig)
        url = (configuration.host or "").rstrip("/")
        tls = _tls(configuration) if url.startswith("https:") else None
    except Exception as error:  # noqa: BLE001 - of the library, PyYAML, files, ssl: an operator has to look at each
        detail = f"{type(error).__name__}: {error}"
        if in_cluster:
            raise ConfigurationError(
                IN_CLUSTER_VARIABLE, f"beside a token and ca.crt in {service_account}", detail
            ) from None
        raise ConfigurationError("KUBECONFIG", "a usable kubeconfig outside of a cluster", detail) from None
    return ApiAccess(
        url,
        tls,
        configuration.tls_server_name,
        configuration.proxy,
        lambda: _authorization(configuration),
    )


def _empty_configuration() -> Configuration:
    from kubernetes_asyncio.client import Configuration

    return Configuration()


def _from_service_account(configuration: Configuration, environ: Mapping[str, str], directory: Path) -> None:
    from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader

    loader = InClusterConfigLoader(
        token_filename=str(directory / "token"), cert_filename=str(directory / "ca.crt"), environ=dict(environ)
    )
    loader.load_and_set(configuration)


async def _from_kubeconfig(configuration: Configuration, path: str) -> None:
    from kubernetes_asyncio.config import load_kube_config

    await load_kube_config(config_file=path, client_configuration=configuration, persist_config=False)


async def _authorization(configuration: Configuration) -> str | None:
    """Raises BackendUnavailableError where a token is due to be read again and cannot be."""
    from kubernetes_asyncio.config import ConfigException

    try:
        value: str | None = await configuration.get_api_key_with_prefix("BearerToken")
    except (ConfigException, OSError) as error:
        raise BackendUnavailableError(f"no credentials: {error}") from None
    return value


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    # Python 3.13 refuses certificates without an Authority Key Identifier, which clusters' own authorities often
    # leave out. Chain and host name are verified as ever.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:  # as the kubeconfig says: insecure-skip-tls-verify
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
