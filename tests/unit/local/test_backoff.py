from session_service.local.backoff import Backoff


def test_doubles_from_a_tenth_up_to_five_seconds() -> None:
    backoff = Backoff()
    assert [backoff.delay_s(ran_s=0.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_starts_again_after_a_healthy_time() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_s(ran_s=1.0)
    assert backoff.delay_s(ran_s=30.0) == 0.1
    assert backoff.delay_s(ran_s=29.9) == 0.2
