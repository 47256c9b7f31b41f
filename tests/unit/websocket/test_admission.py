"""Admission with a clock of its own."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from session_service.errors import OverloadedError
from session_service.telemetry.metrics import Metrics
from session_service.websocket.admission import (
    TICK_INTERVAL_S,
    AdmissionControl,
    AdmissionLimits,
    RefusalReason,
)
from session_service.websocket.setup_rate import LONGEST_RETRY_S, RateLimits

SLOW = RateLimits(floor_per_s=10.0, ceiling_per_s=10.0, smallest_burst=2.0, burst_s=0.1)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Pod:
    """An AdmissionControl, and what it counted."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.admission = AdmissionControl(limits, self.metrics, self.clock, lambda: 0.5)

    def refused(self, reason: RefusalReason) -> float:
        value = self.metrics.registry.get_sample_value("session_admission_refused_total", {"reason": reason})
        return value or 0.0

    def admitted(self, tries: int) -> int:
        waits_s: list[int] = []
        for _ in range(tries):
            try:
                self.admission.admit()
            except OverloadedError as error:
                waits_s.append(error.retry_after_s)
        assert all(1 <= wait_s <= LONGEST_RETRY_S for wait_s in waits_s)
        return tries - len(waits_s)


def test_the_rate_refuses_and_says_when_to_come_again() -> None:
    pod = Pod(AdmissionLimits(rate=SLOW))
    assert pod.admitted(5) == 2
    assert pod.refused(RefusalReason.RATE) == 3
    pod.clock.now_s += 0.15
    assert pod.admitted(5) == 1


def test_a_socket_without_a_token_is_limited_by_number_only() -> None:
    pod = Pod(AdmissionLimits(rate=SLOW))
    for _ in range(100):
        pod.admission.check_unauthenticated()
    assert pod.admitted(2) == 2


def test_a_full_pod_refuses_and_takes_no_token_for_it() -> None:
    pod = Pod(AdmissionLimits(connections=1, rate=SLOW))
    pod.admission.connection_began()
    assert pod.admitted(10) == 0
    assert pod.refused(RefusalReason.CONNECTIONS) == 10
    pod.admission.connection_ended()
    assert pod.admitted(2) == 2


def test_setups_under_way_are_limited() -> None:
    pod = Pod(AdmissionLimits(setups=1))
    with pod.admission.setup():
        pod.admission.admit()
        with pod.admission.setup(), pytest.raises(OverloadedError):
            pod.admission.admit()
    assert pod.refused(RefusalReason.SETUPS) == 1


def test_sockets_without_a_token_are_limited() -> None:
    pod = Pod(AdmissionLimits(unauthenticated=1))
    pod.admission.check_unauthenticated()
    pod.admission.unauthenticated = 1
    with pytest.raises(OverloadedError):
        pod.admission.check_unauthenticated()
    assert pod.refused(RefusalReason.UNAUTHENTICATED) == 1


def test_a_storm_in_one_pass_of_the_loop_is_cut_before_the_pass_ends() -> None:
    """The tick cannot come while the loop is busy: its absence is what is noticed. A check takes 0.2 ms here."""
    pod = Pod(AdmissionLimits())
    pod.admission.tick()
    admitted = 0
    for _ in range(5_000):
        pod.clock.now_s += 0.0002
        admitted += pod.admitted(1)
    assert 1_500 <= admitted <= 3_500  # all of the first 300 ms, and a part of the rest of the second
    assert pod.refused(RefusalReason.RATE) == 5_000 - admitted


def test_without_a_tick_nothing_is_taken_for_a_lag() -> None:
    pod = Pod(AdmissionLimits())
    pod.clock.now_s += 3_600
    assert pod.admitted(1_000) == 1_000


def test_refusals_are_logged_once_a_second_with_their_number() -> None:
    pod = Pod(AdmissionLimits(rate=SLOW))
    with capture_logs() as lines:
        for _ in range(30):  # 1.5 s
            pod.admitted(10)
            pod.clock.now_s += TICK_INTERVAL_S
            pod.admission.tick()
    assert [line["event"] for line in lines] == ["connections_refused"] * 2
    first, second = lines
    assert first["refused"] == {"rate": 8}
    assert second["refused"]["rate"] >= 150


def test_nothing_is_logged_while_nobody_is_refused() -> None:
    pod = Pod(AdmissionLimits())
    with capture_logs() as lines:
        for _ in range(40):
            pod.clock.now_s += TICK_INTERVAL_S
            pod.admission.tick()
    assert lines == []
