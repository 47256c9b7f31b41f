from session_service.simulators.backend import WorkloadSpec
from session_service.simulators.runner_simulators import LISTENING, simulator_environ

SPEC = WorkloadSpec("sim-1", "session-1", "user-1", ("AAPL", "MSFT"), 1_000_000_000_000.25, "token", "database")


def test_a_simulator_gets_what_the_contract_names() -> None:
    made = simulator_environ(SPEC, {"PATH": "/bin", "SEED": "7"})
    assert made == {
        "PATH": "/bin",
        "SEED": "7",
        "SIMULATOR_ID": "sim-1",
        "SESSION_ID": "session-1",
        "USER_ID": "user-1",
        "INITIAL_SYMBOLS": "AAPL,MSFT",
        "INITIAL_CASH": "1000000000000.25",
        "SIMULATOR_TOKEN": "token",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "PYTHONUNBUFFERED": "1",
    }


def test_a_spare_is_told_no_session() -> None:
    made = simulator_environ(WorkloadSpec.spare("sim-1", "token", "database"), {"SESSION_ID": "the service's own"})
    assert made["SINGLE_SESSION"] == "true"
    assert not {"SESSION_ID", "USER_ID"} & made.keys()


def test_a_simulator_never_gets_the_services_secrets() -> None:
    secret = {
        "SECRET_KEY": "s",
        "DB_PASSWORD": "s",
        "REDIS_PASSWORD": "s",
        "SIMULATOR_RUNNER_TOKEN": "s",
        "DB_PASS": "s",
    }
    assert "s" not in simulator_environ(SPEC, secret).values()


def test_finds_the_listening_line() -> None:
    match = LISTENING.search(b"exchange-simulator listening on 127.0.0.1:40769\n")
    assert match is not None
    assert match["port"] == b"40769"
