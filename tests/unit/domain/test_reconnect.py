"""Who counts as a client that came back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from session_service.domain.reconnect import Comeback, connected, said
from session_service.domain.session import Session, SessionStatus
from session_service.errors import DeviceMismatchError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def session(device_id: str | None) -> Session:
    return Session("s1", "u1", SessionStatus.ACTIVE, NOW, NOW, NOW, device_id, {})


def test_a_first_connection_is_no_comeback() -> None:
    assert connected("tab", 0) is None
    assert connected("tab", 1) == Comeback("tab", 1)
    assert connected(None, 2) == Comeback(None, 2)


def test_who_says_that_it_is_back_is_believed_for_its_own_device() -> None:
    assert said(session("device-1"), "device-1", "tab", 0) == Comeback("tab", 0)
    assert said(session(None), "any", None, 3) == Comeback(None, 3)
    with pytest.raises(DeviceMismatchError):
        said(session("device-1"), "device-2", "tab", 1)


def test_clients_without_an_id_count_under_one_name() -> None:
    assert Comeback(None, 1).counted_as == ""
    assert Comeback("tab", 1).counted_as == "tab"
