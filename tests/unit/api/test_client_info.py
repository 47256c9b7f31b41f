"""What a request tells of its client."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from session_service.api.client_info import client_info


@pytest.mark.parametrize(
    ("user_agent", "kept"),
    [
        (None, None),
        ("curl/8.5", "curl/8.5"),
        ("x" * 600, "x" * 512),
        ("tab\there", "tab?here"),
    ],
)
def test_user_agents_are_cut_and_made_printable(user_agent: str | None, kept: str | None) -> None:
    headers = {} if user_agent is None else {"User-Agent": user_agent}
    assert client_info(make_mocked_request("GET", "/", headers), ()).user_agent == kept
