"""The measure of the event loop's lag."""

from __future__ import annotations

from session_service.websocket.loop_lag import LoopLag


def test_a_loop_that_has_not_begun_to_tick_does_not_lag() -> None:
    assert LoopLag(0.05).lag_s(1_000.0) == 0.0


def test_a_tick_is_late_by_what_it_came_after_it_was_due() -> None:
    lag = LoopLag(0.05)
    assert lag.ticked(1.0) == 0.0
    assert lag.ticked(1.04) == 0.0
    assert abs(lag.ticked(1.29) - 0.2) < 1e-9


def test_an_overdue_tick_is_a_lag_before_it_comes() -> None:
    lag = LoopLag(0.05)
    lag.ticked(1.0)
    assert lag.lag_s(1.05) == 0.0
    assert abs(lag.lag_s(1.55) - 0.5) < 1e-9
