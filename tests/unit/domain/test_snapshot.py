"""Snapshots: their text, and which is the later one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.snapshot import Snapshot


@pytest.mark.parametrize("text", ["3:3:", "10:14:10,12", "9223372036854775807:9223372036854775807:"])
def test_its_text_is_postgresqls(text: str) -> None:
    assert str(Snapshot.parse(text)) == text


@pytest.mark.parametrize("text", ["", "3", "3:3", "a:3:", "3:3:x", "3:3::"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever step of the reading
        Snapshot.parse(text)


@given(st.lists(st.sampled_from(["begin", "end first", "end last"]), max_size=30))
def test_it_grows_with_each_transaction_that_ends(steps: list[str]) -> None:
    running: list[int] = []
    following, latest_ended = 10, 9
    last = Snapshot.before(10)
    for step in steps:
        ended = False
        if step == "begin":
            running.append(following)
            following += 1
        elif running:
            latest_ended = max(latest_ended, running.pop(0 if step == "end first" else -1))
            ended = True
        in_progress = tuple(xid for xid in running if xid <= latest_ended)
        now = Snapshot(min(in_progress, default=latest_ended + 1), latest_ended + 1, in_progress)
        assert (now.age > last.age) == ended
        assert ended or now == last
        last = now
