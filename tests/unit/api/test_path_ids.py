"""What cannot be an id is not found, before the database is asked."""

from __future__ import annotations

import pytest

from session_service.api.path_ids import checked_session_id
from session_service.errors import SessionNotFoundError


@pytest.mark.parametrize("text", ["", "a\x00b", "x" * 256, "x" * 10_240, "a\nb", "\udcff"])
def test_no_ids(text: str) -> None:
    with pytest.raises(SessionNotFoundError):
        checked_session_id(text)


@pytest.mark.parametrize("text", ["2f0c1b1e-6f0e-4a51-b0d0-0d5a4d9d2d0a", "anything else", "%2F", "'; --"])
def test_what_may_be_an_id(text: str) -> None:
    assert checked_session_id(text) == text
