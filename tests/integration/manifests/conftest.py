"""The overlays of k8s/, rendered once each by the real kustomize."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.manifests import K8S, OVERLAYS, KubectlMissingError, Object, render


def rendered(directory: Path) -> list[Object]:
    try:
        return render(directory)
    except KubectlMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=OVERLAYS, ids=lambda overlay: overlay.name)
def overlay(request: pytest.FixtureRequest) -> Path:
    """The directory of one overlay; a test that asks for it runs for each."""
    directory: Path = request.param
    return directory


@pytest.fixture(scope="session")
def objects(overlay: Path) -> list[Object]:
    """What that overlay would apply. Shared: not to be changed."""
    return rendered(overlay)


@pytest.fixture(scope="session")
def production() -> list[Object]:
    """What the production overlay would apply, for what only that has."""
    return rendered(K8S / "overlays" / "production")
