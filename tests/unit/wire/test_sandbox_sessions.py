"""Bodies, queries and answers of sandbox sessions, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from session_service.domain.inbox import InboxStatus
from session_service.domain.sandbox_session import FieldChanges, Position, SandboxPage, SandboxSession
from session_service.errors import InvalidRequestError
from session_service.wire.rest import decode_body
from session_service.wire.sandbox_sessions import (
    MAX_EXPONENT,
    ChangedSandboxSession,
    ClaimRequest,
    NewSandboxSession,
    children,
    claimed_row,
    depth_of_query,
    is_sandbox_session_id,
    json_text,
    list_query,
    message_text,
    row,
    session_list,
)

ID = "2f0c1b1e-6f0e-4a51-b0d0-0d5a4d9d2d0a"
SESSION = SandboxSession(
    id=ID,
    messages='[1e400, "é"]',
    inbox_status=InboxStatus.PROCESSING,
    sbx_config=None,
    parent=None,
    created_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC),
    updated_at=datetime(2026, 1, 2, tzinfo=UTC),
    claim="the-claim",
)
ROW = (
    f'{{"id":"{ID}","messages":[1e400, "é"],"inbox_status":"processing","sbx_config":null,"parent":null,'
    '"created_at":"2026-01-02T03:04:05.678901Z","updated_at":"2026-01-02T00:00:00Z"'
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def encoded(answer: Any) -> str:
    return msgspec.json.encode(answer).decode()


def written(value: Any) -> str:
    """JSON with decimals as numbers."""
    match value:
        case Decimal():
            return str(value)
        case list():
            return "[" + ",".join(written(one) for one in value) + "]"
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{written(one)}" for key, one in value.items()) + "}"
        case _:
            return json.dumps(value)


def largest_exponent(text: str) -> int:
    """As a whole JSON decoder finds it."""
    found = [0]

    def look(number: str) -> None:
        found.append(abs(int(number.lower().partition("e")[2] or 0)))

    json.loads(text, parse_float=look)
    return max(found)


def test_a_row_is_in_the_documented_order_and_its_json_as_it_was() -> None:
    assert encoded(row(SESSION)) == ROW + "}"
    assert encoded(claimed_row(SESSION, "the-claim")) == ROW + ',"claim":"the-claim"}'


def test_a_new_session_is_pending_unless_it_says_otherwise() -> None:
    decoder = msgspec.json.Decoder(NewSandboxSession)
    assert decode_body(decoder, b"{}").inbox_status is InboxStatus.PENDING
    assert decode_body(decoder, b'{"inbox_status": null}').inbox_status is None
    assert decode_body(decoder, b'{"inboxStatus": null}').inbox_status is InboxStatus.PENDING  # an unknown field


def test_absent_and_null_differ_in_a_change() -> None:
    decoder = msgspec.json.Decoder(ChangedSandboxSession)
    assert decode_body(decoder, b"{}").to_change() == FieldChanges()
    nulls = b'{"messages": null, "inbox_status": null, "sbx_config": null, "parent": null}'
    assert decode_body(decoder, nulls).to_change() == FieldChanges(
        messages=None, inbox_status=None, sbx_config=None, parent=None
    )
    some = f'{{"messages": [ 1 ], "inbox_status": "failed", "parent": "{ID.upper()}"}}'
    assert decode_body(decoder, some.encode()).to_change() == FieldChanges(
        messages="[ 1 ]", inbox_status=InboxStatus.FAILED, parent=ID
    )


def test_a_claim_waits_for_nothing_unless_it_says_so() -> None:
    body = decode_body(msgspec.json.Decoder(ClaimRequest), b'{"worker": "w"}')
    assert (body.visibility_seconds, body.wait_seconds) == (30.0, 0.0)


def test_null_is_a_message_and_no_messages() -> None:
    assert message_text("message", Raw(b"null")) == "null"
    assert json_text("messages", Raw(b"null")) is None
    assert json_text("messages", UNSET) is None


@given(json_values)
def test_json_is_taken_as_it_is_or_refused_for_an_exponent(value: Any) -> None:
    text = written(value)
    if largest_exponent(text) > MAX_EXPONENT:
        with pytest.raises(InvalidRequestError, match="messages: holds a number with an exponent"):
            message_text("messages", Raw(text.encode()))
    else:
        assert message_text("messages", Raw(text.encode())) == text


@pytest.mark.parametrize("number", ["1e1000", "-1.5E+01000", "1e-1000", '{"e": 0e99999}', r'["\"", 1e5000, "x"]'])
def test_numbers_that_would_be_long_written_out(number: str) -> None:
    with pytest.raises(InvalidRequestError, match="exponent beyond 999"):
        message_text("messages", Raw(number.encode()))


@pytest.mark.parametrize("number", ["1e999", "-1e-999", "1E+0000999", '"1e5000"', r'"\\\"1e5000"', '{"1e5000": 1}'])
def test_numbers_and_texts_that_are_kept(number: str) -> None:
    assert message_text("messages", Raw(number.encode())) == number


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="messages: is not UTF-8"):
        message_text("messages", Raw(b'"\xff"'))


@pytest.mark.parametrize(
    "created_at",
    [
        "2026-01-02 03:04:05.678901+00",
        "2026-01-02 03:04:05+00",
        "infinity",
        "-infinity",
        "0044-03-15 00:00:00+00 BC",
        "294276-01-01 00:00:00+00",
    ],
)
def test_a_cursor_leads_back_to_its_place(created_at: str) -> None:
    page = session_list(SandboxPage((SESSION,), Position(created_at, ID)))
    assert page.cursor is not None
    assert list_query({"cursor": page.cursor}).after == Position(created_at, ID)


def test_the_last_page_has_no_cursor() -> None:
    assert session_list(SandboxPage((), None)).cursor is None
    assert children(SandboxPage((), None)).truncated is False
    assert children(SandboxPage((SESSION,), Position("infinity", ID))).truncated is True


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_other_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^cursor: "):
        list_query({"cursor": cursor})


@pytest.mark.parametrize(
    "created_at",
    [
        "2026-01-02 03:04:05+99",
        "2026-01-02 03:04:05+01",
        "2026-01-02 03:04:05-4713",
        "-4713-01-01 00:00:00+00",
        "2026-01-02 03:04:05.+00",
        "2026-01-02T03:04:05+00",
        "1111111111111111111111",
        "infinity BC",
    ],
)
def test_a_cursor_that_postgresql_would_not_have_written_is_refused(created_at: str) -> None:
    page = session_list(SandboxPage((SESSION,), Position(created_at, ID)))
    with pytest.raises(InvalidRequestError, match=r"^cursor: "):
        list_query({"cursor": str(page.cursor)})


def test_queries_have_their_defaults() -> None:
    query = list_query({})
    assert (query.status, query.parent, query.limit, query.after) == (None, None, 50, None)
    assert list_query({"status": "failed", "parent": ID, "limit": "200"}).limit == 200
    assert (depth_of_query({}), depth_of_query({"depth": "100"})) == (1, 100)


@pytest.mark.parametrize("number", ["0", "201", "-1", "+1", "1.0", "", "١", "9" * 5000])
def test_numbers_of_queries_are_whole_and_bounded(number: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^limit: must be a whole number from 1 to 200$"):
        list_query({"limit": number})


def test_what_may_be_an_id() -> None:
    assert is_sandbox_session_id(ID)
    assert is_sandbox_session_id(ID.upper())
    for text in ("", ID[:-1], f"{ID}\n", f"{{{ID}}}", ID.replace("-", ""), "x" * 36, f"urn:uuid:{ID}"):
        assert not is_sandbox_session_id(text)
