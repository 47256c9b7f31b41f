"""Latency, missed heartbeats, and when a socket is given up."""

from session_service_client.heartbeats import Heartbeats


def test_an_answer_gives_the_latency() -> None:
    heartbeats = Heartbeats(0.0, 10.0)
    assert heartbeats.next_s == 10.0
    heartbeats.beat(10.0, 1000)
    heartbeats.answered(10.25, 1000)
    assert (heartbeats.latency_s, heartbeats.missed, heartbeats.next_s) == (0.25, 0, 20.0)


def test_heartbeats_without_answer_are_counted_until_one_is_answered() -> None:
    heartbeats = Heartbeats(0.0, 10.0)
    missed = []
    for beat in range(1, 5):
        heartbeats.beat(beat * 10.0, beat)
        missed.append(heartbeats.missed)
    assert missed == [0, 1, 2, 3]
    heartbeats.answered(41.0, 3)
    assert (heartbeats.missed, heartbeats.latency_s) == (0, 11.0)
    heartbeats.beat(50.0, 5)
    assert heartbeats.missed == 1, "the fourth is unanswered still"


def test_a_silent_socket_is_lost_after_three() -> None:
    heartbeats = Heartbeats(0.0, 10.0)
    for beat in range(1, 4):
        heartbeats.beat(beat * 10.0, beat)
        assert not heartbeats.lost(last_heard_s=5.0)
    heartbeats.beat(40.0, 4)
    assert heartbeats.lost(last_heard_s=5.0)
    assert not heartbeats.lost(last_heard_s=35.0), "data still comes"


def test_an_answer_to_nothing_changes_nothing() -> None:
    heartbeats = Heartbeats(0.0, 10.0)
    heartbeats.beat(10.0, 1)
    heartbeats.answered(11.0, 99)
    heartbeats.answered(11.0, "1")
    assert heartbeats.latency_s is None
