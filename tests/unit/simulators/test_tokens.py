"""A simulator's token: the same on every pod, known to none before the database's key is."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from session_service.errors import DatabaseUnavailableError
from session_service.simulators.tokens import SimulatorTokens


class Key:
    """The database's key; ``away`` while PostgreSQL does not answer."""

    def __init__(self, key: str = "key-of-this-database") -> None:
        self.key = key
        self.away = False
        self.loads = 0

    async def load(self) -> str:
        self.loads += 1
        if self.away:
            raise DatabaseUnavailableError
        return self.key


async def test_a_token_is_the_hmac_of_the_simulators_id() -> None:
    tokens = SimulatorTokens(Key().load)
    await tokens.load()
    assert tokens.token("sim") == hmac.new(b"key-of-this-database", b"sim", hashlib.sha256).hexdigest()


async def test_pods_of_one_database_agree_and_of_another_do_not() -> None:
    pods = [SimulatorTokens(Key(key).load) for key in ("one", "one", "two")]
    for tokens in pods:
        await tokens.load()
    first, same, other = (tokens.token("sim") for tokens in pods)
    assert first == same != other
    assert pods[0].token("another") != first


async def test_the_key_is_asked_for_until_it_came_and_then_no_more() -> None:
    key = Key()
    key.away = True
    tokens = SimulatorTokens(key.load)
    with pytest.raises(DatabaseUnavailableError):
        tokens.token("sim")
    with pytest.raises(DatabaseUnavailableError):
        await tokens.load()
    with pytest.raises(DatabaseUnavailableError):
        tokens.token("sim")
    key.away = False
    await tokens.load()
    key.away = True
    await tokens.load()
    assert key.loads == 2
    assert len(tokens.token("sim")) == 64
