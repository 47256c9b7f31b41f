"""Which work is claimed next, and what becomes of it."""

from __future__ import annotations

import pytest

from session_service.domain.inbox import InboxStatus, Work, after_failure, is_exhausted, next_claim, retry_delay_s

PENDING, PROCESSING = InboxStatus.PENDING, InboxStatus.PROCESSING
NOW_S = 100.0


def chosen(*rows: Work) -> str | None:
    work = next_claim(rows, NOW_S)
    return None if work is None else work.id


def test_the_oldest_that_waits_is_next_and_the_id_decides_between_equals() -> None:
    assert chosen(Work("b", PENDING, 2), Work("c", PENDING, 1), Work("a", PENDING, 2)) == "c"
    assert chosen(Work("b", PENDING, 2), Work("a", PENDING, 2)) == "a"
    assert chosen() is None


@pytest.mark.parametrize("status", [None, InboxStatus.COMPLETED, InboxStatus.FAILED, PROCESSING], ids=str)
def test_what_is_no_work_or_was_set_to_processing_without_a_claim_is_left_alone(status: InboxStatus | None) -> None:
    assert chosen(Work("a", status, 1)) is None


def test_a_claim_holds_until_it_runs_out_and_then_comes_before_what_waits() -> None:
    waiting = Work("waiting", PENDING, 50)
    assert chosen(waiting, Work("claimed", PROCESSING, 1, claimed_until_s=100.1, attempts=1)) == "waiting"
    assert chosen(waiting, Work("claimed", PROCESSING, 1, claimed_until_s=100.0, attempts=1)) == "claimed"


def test_a_retry_waits_for_its_back_off() -> None:
    assert chosen(Work("retry", PENDING, 1, not_before_s=100.1, attempts=1)) is None
    assert chosen(Work("retry", PENDING, 60, not_before_s=99, attempts=1), Work("waiting", PENDING, 50)) == "retry"


def test_of_those_that_come_again_the_first_that_became_claimable_is_next() -> None:
    rows = (Work("retry", PENDING, 1, not_before_s=90), Work("lost", PROCESSING, 2, claimed_until_s=80, attempts=1))
    assert chosen(*rows) == "lost"


def test_a_claim_that_ran_out_for_the_last_time_is_not_given_out_again() -> None:
    last = Work("last", PROCESSING, 1, claimed_until_s=90, attempts=5)
    assert is_exhausted(last, NOW_S)
    assert chosen(last) is None
    assert not is_exhausted(Work("held", PROCESSING, 1, claimed_until_s=110, attempts=5), NOW_S)
    assert not is_exhausted(Work("pending", PENDING, 1, attempts=5), NOW_S)


def test_delays_double_up_to_five_minutes() -> None:
    assert [retry_delay_s(attempts) for attempts in (0, 1, 2, 3, 9, 10, 1000)] == [1, 1, 2, 4, 256, 300, 300]


def test_a_failure_is_final_without_a_retry_or_without_an_attempt_left() -> None:
    assert after_failure(1, 5, retry=True) is PENDING
    assert after_failure(5, 5, retry=True) is InboxStatus.FAILED
    assert after_failure(1, 5, retry=False) is InboxStatus.FAILED
