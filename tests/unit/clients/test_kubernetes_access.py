"""The library behind a kubeconfig is heavy: who does not use it does not load it."""

from __future__ import annotations

import subprocess
import sys


def test_a_pod_without_kubernetes_does_not_import_its_library() -> None:
    code = "import sys, session_service.server; sys.exit('kubernetes_asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
