"""Render every overlay and validate every object strictly against the schemas of three Kubernetes minor versions.

Offline. Exit code 0 also where nothing could be rendered, with the reason: kubectl is not needed to build or test.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import kubernetes_validate

from scripts.manifests import OVERLAYS, ROOT, KubectlMissingError, Object, render, title

MINOR_VERSIONS = 3
CUSTOM_GROUPS = ("monitoring.coreos.com/",)  # their schemas are the operator's


def newest_versions() -> list[str]:
    """The newest minor versions that the package has schemas for, newest first."""
    major, minor = kubernetes_validate.latest_version().split(".")[:2]
    return [f"{major}.{int(minor) - back}" for back in range(MINOR_VERSIONS)]


def faults(objects: Sequence[Object], version: str) -> list[str]:
    """One line for each object that this version of Kubernetes would not take as it is written."""
    found = []
    for each in objects:
        if each["apiVersion"].startswith(CUSTOM_GROUPS):
            continue
        try:
            kubernetes_validate.validate(each, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.path))
            found.append(f"{title(each)}, Kubernetes {version}: {where}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{title(each)}, Kubernetes {version}: {error.message}")
    return found


def main() -> int:
    failed = False
    for overlay in OVERLAYS:
        name = overlay.relative_to(ROOT)
        try:
            objects = render(overlay)
        except KubectlMissingError as error:
            print(f"manifests not checked: {error}")
            return 0
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        for version in newest_versions():
            wrong = faults(objects, version)
            print(f"{name}: {len(objects)} objects, Kubernetes {version}: {'wrong' if wrong else 'valid'}")
            for line in wrong:
                print(f"  {line}", file=sys.stderr)
            failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
