"""The process's environment."""

import pytest

from exchange_simulator.settings import DEFAULT_SYMBOLS, SettingError, settings_from


def test_nothing_set_means_the_documented_defaults() -> None:
    settings = settings_from({"PORT": " ", "SEED": ""})
    assert (settings.host, settings.port, settings.symbols, settings.cash) == (
        "0.0.0.0",  # noqa: S104 - the documented default
        50_055,
        DEFAULT_SYMBOLS,
        100_000.0,
    )
    assert (settings.seed, settings.update_interval_ms, settings.heartbeat_ttl_s) == (None, 100, 120.0)
    assert not settings.allow_short


def test_everything_set() -> None:
    settings = settings_from(
        {
            "HOST": "::1",
            "PORT": "0",
            "SIMULATOR_ID": "sim",
            "SESSION_ID": "ses",
            "USER_ID": "u",
            "SIMULATOR_TOKEN": "secret",
            "INITIAL_SYMBOLS": "A, BRK.B,A",
            "INITIAL_CASH": "12.5",
            "SEED": "-4",
            "UPDATE_INTERVAL_MS": "50",
            "HEARTBEAT_TTL_S": "0.5",
            "ALLOW_SHORT": "true",
            "SINGLE_SESSION": "true",
        }
    )
    assert (settings.symbols, settings.cash, settings.seed) == (("A", "BRK.B"), 12.5, -4)
    assert (settings.session_id, settings.simulator_id, settings.token) == ("ses", "sim", "secret")
    assert settings.allow_short
    assert settings.single_session
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "http"),
        ("SEED", "x"),
        ("UPDATE_INTERVAL_MS", "4"),
        ("UPDATE_INTERVAL_MS", "1e2"),
        ("INITIAL_CASH", "-1"),
        ("INITIAL_CASH", "nan"),
        ("INITIAL_CASH", "1e13"),
        ("INITIAL_SYMBOLS", "AAPL,no good"),
        ("HEARTBEAT_TTL_S", "0"),
        ("ALLOW_SHORT", "perhaps"),
        ("SINGLE_SESSION", "several"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_an_unusable_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        settings_from({name: value})
