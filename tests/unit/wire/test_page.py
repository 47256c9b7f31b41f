from __future__ import annotations

from session_service.wire.page import loopback_origins


def test_a_pod_of_a_local_run_has_two_names() -> None:
    assert loopback_origins(["http://127.0.0.1:8080", "http://127.0.0.1:8081"]) == [
        "http://127.0.0.1:8080",
        "http://localhost:8080",
        "http://127.0.0.1:8081",
        "http://localhost:8081",
    ]


def test_the_default_port_is_left_out_as_browsers_do() -> None:
    assert loopback_origins(["http://127.0.0.1:80"]) == ["http://127.0.0.1", "http://localhost"]
