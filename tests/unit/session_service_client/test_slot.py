"""Make before break: when the new socket is opened, and when the old one is left."""

from session_service_client.slot import Slot, Step


def slot() -> Slot:
    return Slot(100.0, reconnect_after_s=2.0, deadline_s=10.0)


def test_the_new_socket_is_opened_at_the_slot_and_not_before() -> None:
    assert slot().step(101.9, opened=False, delivers=False) is Step.WAIT
    assert slot().step(102.0, opened=False, delivers=False) is Step.OPEN
    assert slot().next_s(opened=False) == 102.0


def test_the_old_socket_is_left_once_the_new_one_delivers() -> None:
    assert slot().step(103.0, opened=True, delivers=False) is Step.WAIT
    assert slot().step(103.0, opened=True, delivers=True) is Step.SWITCH
    assert slot().next_s(opened=True) == 110.0


def test_the_deadline_ends_it_either_way() -> None:
    assert slot().step(110.0, opened=True, delivers=False) is Step.SWITCH
    assert slot().step(110.0, opened=False, delivers=False) is Step.GIVE_UP


def test_a_failed_try_is_made_again_while_there_is_time() -> None:
    moving = slot()
    moving.postpone(105.0)
    assert moving.step(104.0, opened=False, delivers=False) is Step.WAIT
    assert moving.step(105.0, opened=False, delivers=False) is Step.OPEN
    moving.postpone(200.0)
    assert moving.next_s(opened=False) == 110.0
    assert moving.step(110.0, opened=False, delivers=False) is Step.GIVE_UP


def test_a_slot_beyond_the_deadline_is_the_deadline() -> None:
    assert Slot(0.0, reconnect_after_s=20.0, deadline_s=5.0).opens_at_s == 5.0
