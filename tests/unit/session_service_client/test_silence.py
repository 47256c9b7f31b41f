"""When a socket that must speak is asked, and when it is given up."""

from session_service_client.silence import Look, Silence


def test_a_socket_that_speaks_is_left_alone() -> None:
    silence = Silence(0.0, 5.0)
    assert silence.look(2.5, last_heard_s=2.0) is Look.NOTHING
    assert silence.next_s == 4.5
    assert silence.look(4.5, last_heard_s=4.4) is Look.NOTHING
    assert silence.next_s == 6.9


def test_one_that_is_silent_is_asked_at_half_the_limit_and_given_up_at_the_limit() -> None:
    silence = Silence(0.0, 5.0)
    assert silence.look(2.5, last_heard_s=0.0) is Look.ASK
    assert silence.look(3.0, last_heard_s=0.0) is Look.NOTHING, "it was woken for something else"
    assert silence.next_s == 5.0
    assert silence.look(5.0, last_heard_s=0.0) is Look.LOST


def test_an_answer_begins_it_anew() -> None:
    silence = Silence(0.0, 5.0)
    assert silence.look(2.5, last_heard_s=0.0) is Look.ASK
    assert silence.look(5.0, last_heard_s=2.6) is Look.NOTHING
    assert silence.look(silence.next_s, last_heard_s=2.6) is Look.ASK
    assert silence.look(silence.next_s, last_heard_s=2.6) is Look.LOST


def test_a_late_look_proves_nothing() -> None:
    silence = Silence(0.0, 5.0)
    assert silence.look(30.0, last_heard_s=0.0) is Look.NOTHING
    assert silence.look(silence.next_s, last_heard_s=0.0) is Look.ASK, "never given up without having been asked"
    assert silence.look(60.0, last_heard_s=0.0) is Look.NOTHING
    assert silence.look(61.25, last_heard_s=0.0) is Look.LOST


def test_what_was_read_after_a_late_look_counts() -> None:
    silence = Silence(0.0, 5.0)
    assert silence.look(2.5, last_heard_s=0.0) is Look.ASK
    assert silence.look(9.0, last_heard_s=0.0) is Look.NOTHING
    assert silence.look(10.25, last_heard_s=9.1) is Look.NOTHING
