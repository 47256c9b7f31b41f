"""AuthClient against real HTTP servers, well-behaved and not."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from structlog.testing import capture_logs

from session_service.clients.auth import AuthClient
from session_service.clients.jwks import FETCH_TIMEOUT_S, usable_keys
from session_service.clients.token_signer import sign_token
from session_service.config import AuthMode, AuthSettings
from session_service.domain.identity import Identity
from session_service.errors import AuthenticationError, AuthServiceUnavailableError
from session_service.telemetry.metrics import Metrics
from tests.support.stalls import Stalls

SECRET = "a-secret-of-at-least-thirty-two-bytes"
PRIVATE = rsa.generate_private_key(65537, 2048)
NEXT_PRIVATE = rsa.generate_private_key(65537, 2048)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clock:
    """Time that passes when it is told to; starts now, so that real tokens are valid."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


class Remote:
    """A server whose answer can be exchanged; counts the requests."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answer: Answer
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.server = TestServer(app)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.answer(request)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/")).rstrip("/")


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    it = Remote()
    await it.server.start_server(shutdown_timeout=0.1)
    yield it
    await it.server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make_client(clock: Clock) -> AsyncIterator[Callable[[AuthSettings], Awaitable[AuthClient]]]:
    clients: list[AuthClient] = []

    async def make(settings: AuthSettings) -> AuthClient:
        client = AuthClient(settings, metrics=Metrics(), now=clock, clock=clock)
        await client.start()
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


Make = Callable[[AuthSettings], Awaitable[AuthClient]]


def answers(body: Any, status: int = 200) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=raw, status=status, content_type="application/json")

    return answer


async def hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def trickles(request: web.Request) -> web.StreamResponse:
    """A byte now and then: no read ever takes long, the whole does."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def never_stops(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def drops(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def redirects(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("/elsewhere")


async def inflates(_request: web.Request) -> web.StreamResponse:
    """Says yes, compressed although that was not asked for."""
    body = gzip.compress(json.dumps({"valid": True, "userId": "u"}).encode())
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


class TestSecret:
    async def test_verifies_and_remembers(self, make_client: Make, clock: Clock) -> None:
        client = await make_client(AuthSettings(secret_key=SECRET))
        token = sign_token(SECRET, "HS256", "user-1", now_s=clock(), ttl_s=600, scope="sandbox")
        assert client.validate_cached(token) is None
        identity = await client.validate(token)
        assert identity == Identity("user-1", int(clock() + 600), frozenset({"sandbox"}))
        assert client.validate_cached(token) is identity
        clock.now_s += 59
        assert client.validate_cached(token) is identity
        clock.now_s += 2
        assert client.validate_cached(token) is None

    async def test_nothing_is_remembered_beyond_exp(self, make_client: Make, clock: Clock) -> None:
        client = await make_client(AuthSettings(secret_key=SECRET))
        token = sign_token(SECRET, "HS256", "user-1", now_s=clock(), ttl_s=10)
        await client.validate(token)
        clock.now_s += 15
        assert client.validate_cached(token) is None
        assert (await client.validate(token)).user_id == "user-1"  # within the leeway
        assert client.validate_cached(token) is None
        clock.now_s += 30
        with pytest.raises(AuthenticationError):
            await client.validate(token)

    async def test_a_clock_that_is_set_back_forgets(self, make_client: Make, clock: Clock) -> None:
        client = await make_client(AuthSettings(secret_key=SECRET))
        token = sign_token(SECRET, "HS256", "user-1", now_s=clock() - 100, ttl_s=600)
        await client.validate(token)
        clock.now_s -= 50
        assert client.validate_cached(token) is None

    async def test_both_keys_of_a_rotation_count(self, make_client: Make, clock: Clock) -> None:
        client = await make_client(AuthSettings(secret_key="n" * 32, secret_key_previous=SECRET))
        for secret in ("n" * 32, SECRET):
            assert await client.validate(sign_token(secret, "HS256", "u", now_s=clock(), ttl_s=60))
        with pytest.raises(AuthenticationError):
            await client.validate(sign_token("x" * 32, "HS256", "u", now_s=clock(), ttl_s=60))

    async def test_without_a_secret_a_random_one_is_used(self, make_client: Make, clock: Clock) -> None:
        with capture_logs() as logs:
            client = await make_client(AuthSettings())
        assert [line["event"] for line in logs] == ["secret_key_absent"]
        with pytest.raises(AuthenticationError):
            await client.validate(sign_token(SECRET, "HS256", "u", now_s=clock(), ttl_s=60))

    async def test_a_weak_secret_is_warned_of_once(self, make_client: Make, clock: Clock) -> None:
        with capture_logs() as logs:
            client = await make_client(AuthSettings(secret_key="weak"))
            for user in ("a", "b"):
                await client.validate(sign_token("weak", "HS256", user, now_s=clock(), ttl_s=60))
        assert [line["event"] for line in logs] == ["secret_key_weak"]

    async def test_a_huge_token_is_refused(self, make_client: Make) -> None:
        client = await make_client(AuthSettings(secret_key=SECRET))
        with pytest.raises(AuthenticationError):
            await client.validate("a" * 10_000_000)


def jwk(private: RSAPrivateKey, kid: str | None, **members: Any) -> dict[str, Any]:
    public = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(private.public_key()))
    return {**public, **({} if kid is None else {"kid": kid}), **members}


def signed(private: RSAPrivateKey, kid: str | None, *, user: str = "user-1", algorithm: str = "RS256") -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600}, private, algorithm, headers=headers)


class TestKeySet:
    def settings(self, remote: Remote) -> AuthSettings:
        return AuthSettings(mode=AuthMode.JWKS, algorithm="RS256", jwks_url=f"{remote.url}/keys")

    async def test_verifies_by_key_id(self, remote: Remote, make_client: Make) -> None:
        remote.answer = answers({"keys": [jwk(PRIVATE, "one"), jwk(NEXT_PRIVATE, "two")]})
        client = await make_client(self.settings(remote))
        for private, kid in ((PRIVATE, "one"), (NEXT_PRIVATE, "two")):
            assert (await client.validate(signed(private, kid))).user_id == "user-1"
        for token in (signed(PRIVATE, "two"), signed(PRIVATE, None), signed(PRIVATE, "one", algorithm="RS512")):
            with pytest.raises(AuthenticationError):
                await client.validate(token)
        assert len(remote.requests) == 1

    async def test_a_token_without_a_key_id_gets_the_only_key(self, remote: Remote, make_client: Make) -> None:
        remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
        client = await make_client(self.settings(remote))
        assert await client.validate(signed(PRIVATE, None))

    async def test_unknown_key_ids_cause_one_fetch_in_30_seconds(
        self, remote: Remote, make_client: Make, clock: Clock
    ) -> None:
        remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
        client = await make_client(self.settings(remote))
        for _ in range(3):
            clock.now_s += 30
            tokens = [signed(PRIVATE, f"unknown-{clock.now_s}-{number}") for number in range(20)]
            results = await asyncio.gather(*map(client.validate, tokens), return_exceptions=True)
            assert {type(result) for result in results} == {AuthenticationError}
        assert len(remote.requests) == 4

    async def test_one_unknown_key_id_is_remembered(self, remote: Remote, make_client: Make, clock: Clock) -> None:
        remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
        client = await make_client(self.settings(remote))
        for _ in range(5):
            clock.now_s += 31
            with pytest.raises(AuthenticationError):
                await client.validate(signed(PRIVATE, "unknown"))
        assert len(remote.requests) == 2

    async def test_a_new_key_is_found_and_a_withdrawn_one_forgotten(
        self, remote: Remote, make_client: Make, clock: Clock
    ) -> None:
        remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
        client = await make_client(self.settings(remote))
        old = signed(PRIVATE, "one")
        await client.validate(old)
        remote.answer = answers({"keys": [jwk(NEXT_PRIVATE, "two")]})
        clock.now_s += 30
        assert await client.validate(signed(NEXT_PRIVATE, "two"))
        assert client.validate_cached(old) is None
        with pytest.raises(AuthenticationError):
            await client.validate(old)

    async def test_old_keys_are_fetched_again_beside_the_request(
        self, remote: Remote, make_client: Make, clock: Clock, stalls: Stalls
    ) -> None:
        remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
        client = await make_client(self.settings(remote))
        remote.answer = hangs
        clock.now_s += 301
        started = time.monotonic()
        assert await client.validate(signed(PRIVATE, "one"))
        assert stalls.took_s(started) < FETCH_TIMEOUT_S / 2

    async def test_a_pod_that_idled_does_not_use_a_withdrawn_key(
        self, remote: Remote, make_client: Make, clock: Clock
    ) -> None:
        remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
        client = await make_client(self.settings(remote))
        remote.answer = answers({"keys": [jwk(NEXT_PRIVATE, "two")]})
        clock.now_s += 601
        with pytest.raises(AuthenticationError):
            await client.validate(signed(PRIVATE, "one"))

    async def test_keys_outlive_an_issuer_that_is_away_for_a_day(
        self, remote: Remote, make_client: Make, clock: Clock
    ) -> None:
        remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
        client = await make_client(self.settings(remote))
        remote.answer = answers({}, 500)
        token = jwt.encode({"sub": "u", "exp": int(time.time()) + 10**6}, PRIVATE, "RS256", headers={"kid": "one"})
        with capture_logs():
            for _ in range(3):
                clock.now_s += 7 * 3600
                assert await client.validate(token)
            clock.now_s += 4 * 3600
            with pytest.raises(AuthServiceUnavailableError):
                await client.validate(token)
            remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
            clock.now_s += 60
            assert await client.validate(token)

    @pytest.mark.parametrize(
        "fault",
        [
            answers({}, 500),
            answers(b"<html>"),
            answers(b"\xff"),
            answers([]),
            answers({"keys": {}}),
            answers({"keys": []}),
            answers({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
            answers({"keys": [{"kty": "RSA"}] * 101}),
            never_stops,
            drops,
            redirects,
        ],
    )
    async def test_a_start_without_keys_is_no_failure_of_the_pod(
        self, remote: Remote, make_client: Make, clock: Clock, fault: Answer
    ) -> None:
        remote.answer = fault
        with capture_logs() as logs:
            client = await make_client(self.settings(remote))
            tried = len(remote.requests)
            with pytest.raises(AuthServiceUnavailableError):
                await client.validate(signed(PRIVATE, "one"))
        assert len(remote.requests) == tried  # the next attempt is the breaker's to allow
        assert "jwks_fetch_failed" in {line["event"] for line in logs}
        remote.answer = answers({"keys": [jwk(PRIVATE, "one")]})
        clock.now_s += 2
        assert await client.validate(signed(PRIVATE, "one"))

    def test_only_fitting_keys_are_usable(self) -> None:
        weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak is what it must be
        curve = json.loads(
            jwt.get_algorithm_by_name("ES256").to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
        )
        private = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(PRIVATE)) | {"kid": "good"}
        private.pop("key_ops")
        unfit = [
            jwk(PRIVATE, "encryption", use="enc"),
            jwk(PRIVATE, "signs", key_ops=["sign"]),
            jwk(PRIVATE, "odd operations", key_ops="verify"),
            jwk(PRIVATE, "other algorithm", alg="RS512"),
            jwk(PRIVATE, "number", n=5),
            jwk(PRIVATE, "empty", n=""),
            jwk(PRIVATE, "not base64", n="!!!"),
            jwk(PRIVATE, None) | {"kid": 7},
            jwk(weak, "weak"),
            curve | {"kid": "curve"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "RS256"},
            "no object",
        ]
        (key,) = usable_keys(json.dumps({"keys": [*unfit, private]}).encode(), "RS256")
        assert key.key_id == "good"
        assert not isinstance(key.material, RSAPrivateKey)
        assert usable_keys(json.dumps({"keys": [curve | {"kid": "c"}]}).encode(), "ES384") == ()
        assert len(usable_keys(json.dumps({"keys": [curve | {"kid": "c"}]}).encode(), "ES256")) == 1


YES = answers({"valid": True, "userId": "user-1"})


class TestService:
    def settings(self, remote: Remote) -> AuthSettings:
        return AuthSettings(mode=AuthMode.SERVICE, service_url=f"{remote.url}/")

    async def test_asks_as_agreed_and_remembers_for_a_minute(
        self, remote: Remote, make_client: Make, clock: Clock
    ) -> None:
        remote.answer = answers({"valid": True, "userId": 42, "scope": "sandbox"})
        client = await make_client(self.settings(remote))
        identity = await client.validate("opaque")
        assert identity == Identity("42", clock() + 3600, frozenset({"sandbox"}))
        (request,) = remote.requests
        assert (request.method, request.path) == ("POST", "/api/auth/validate")
        assert request.headers["Authorization"] == "Bearer opaque"
        clock.now_s += 59
        assert await client.validate("opaque") is identity
        assert len(remote.requests) == 1
        clock.now_s += 2
        await client.validate("opaque")
        assert len(remote.requests) == 2

    async def test_a_verdict_ends_with_the_tokens_own_exp(
        self, remote: Remote, make_client: Make, clock: Clock
    ) -> None:
        remote.answer = YES
        client = await make_client(self.settings(remote))
        token = sign_token("the key is the service's own affair", "HS256", "x", now_s=clock(), ttl_s=10)
        assert (await client.validate(token)).expires_at == int(clock() + 10)
        clock.now_s += 11
        assert client.validate_cached(token) is None
        clock.now_s += 30
        with pytest.raises(AuthenticationError):
            await client.validate(token)
        assert len(remote.requests) == 1

    async def test_many_callers_ask_once_and_one_that_goes_disturbs_no_other(
        self, remote: Remote, make_client: Make
    ) -> None:
        gate = asyncio.Event()

        async def waits(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return await YES(request)

        remote.answer = waits
        client = await make_client(self.settings(remote))
        callers = [asyncio.create_task(client.validate("opaque")) for _ in range(50)]
        while not remote.requests:
            await asyncio.sleep(0)
        callers[0].cancel()
        await asyncio.wait({callers[0]})
        gate.set()
        identities = await asyncio.gather(*callers[1:])
        assert {identity.user_id for identity in identities} == {"user-1"}
        assert callers[0].cancelled()
        assert len(remote.requests) == 1

    @pytest.mark.parametrize(
        "refusal",
        [answers({"valid": False}), answers({}, 401), answers(b"no", 403), answers({"valid": False, "userId": 1})],
    )
    async def test_a_no_is_remembered_for_5_seconds_and_trips_nothing(
        self, remote: Remote, make_client: Make, clock: Clock, refusal: Answer
    ) -> None:
        remote.answer = refusal
        client = await make_client(self.settings(remote))
        for number in range(10):
            with pytest.raises(AuthenticationError):
                await client.validate(f"opaque-{number}")
        remote.answer = YES
        with pytest.raises(AuthenticationError):
            await client.validate("opaque-9")
        assert len(remote.requests) == 10
        clock.now_s += 5
        assert await client.validate("opaque-9")

    @pytest.mark.parametrize(
        "fault",
        [
            answers({"valid": True, "userId": "user-1"}, 500),
            answers({"valid": True, "userId": "user-1"}, 201),
            answers({"valid": True, "userId": "user-1"}, 404),
            answers(b""),
            answers(b"<html>"),
            answers(b"\xff\xfe"),
            answers(b"[" * 60_000),
            answers([True]),
            answers({}),
            answers({"userId": "user-1"}),
            answers({"valid": "true", "userId": "user-1"}),
            answers({"valid": 1, "userId": "user-1"}),
            answers({"valid": True}),
            answers({"valid": True, "userId": ""}),
            answers({"valid": True, "userId": None}),
            answers({"valid": True, "userId": True}),
            answers({"valid": True, "userId": ["user-1"]}),
            answers({"valid": True, "userId": "user-1", "filler": "x" * 70_000}),
            never_stops,
            inflates,
            drops,
            redirects,
        ],
    )
    async def test_whatever_is_no_clear_answer_lets_nobody_in(
        self, remote: Remote, make_client: Make, fault: Answer
    ) -> None:
        remote.answer = fault
        client = await make_client(self.settings(remote))
        with capture_logs(), pytest.raises(AuthServiceUnavailableError):
            await client.validate("opaque")
        assert client.validate_cached("opaque") is None
        assert {request.path for request in remote.requests} == {"/api/auth/validate"}

    @pytest.mark.parametrize("fault", [hangs, trickles])
    async def test_a_service_that_hangs_costs_2_seconds_and_then_nothing(
        self, remote: Remote, make_client: Make, clock: Clock, stalls: Stalls, fault: Answer
    ) -> None:
        remote.answer = fault
        client = await make_client(self.settings(remote))
        started = time.monotonic()
        with capture_logs():
            tokens = [f"opaque-{number}" for number in range(5)]
            results = await asyncio.gather(*map(client.validate, tokens), return_exceptions=True)
            assert {type(result) for result in results} == {AuthServiceUnavailableError}
            assert time.monotonic() - started > 1.5
            assert stalls.took_s(started) < 4
            with pytest.raises(AuthServiceUnavailableError) as refused:
                await client.validate("another")
        assert refused.value.retry_after_s >= 1
        assert len(remote.requests) == 5
        remote.answer = YES
        clock.now_s += 2
        assert await client.validate("another")

    async def test_a_verdict_outlives_the_service_for_its_minute(
        self, remote: Remote, make_client: Make, clock: Clock
    ) -> None:
        remote.answer = YES
        client = await make_client(self.settings(remote))
        await client.validate("opaque")
        remote.answer = drops
        clock.now_s += 59
        assert await client.validate("opaque")
        clock.now_s += 2
        with capture_logs(), pytest.raises(AuthServiceUnavailableError):
            await client.validate("opaque")

    @pytest.mark.parametrize("token", ["", "two words", "a\r\nX-Injected: 1", "tök", "a=b", "\ud800"])
    async def test_what_cannot_stand_in_a_header_is_not_sent(
        self, remote: Remote, make_client: Make, token: str
    ) -> None:
        client = await make_client(self.settings(remote))
        with pytest.raises(AuthenticationError):
            await client.validate(token)
        assert remote.requests == []

    async def test_close_answers_those_who_wait(self, remote: Remote, clock: Clock) -> None:
        remote.answer = hangs
        client = AuthClient(self.settings(remote), metrics=Metrics(), now=clock, clock=clock)
        await client.start()
        caller = asyncio.create_task(client.validate("opaque"))
        while not remote.requests:
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(AuthServiceUnavailableError):
            await caller

    async def test_no_token_is_logged_or_counted(self, remote: Remote, clock: Clock) -> None:
        remote.answer = answers(b"{", 200)
        metrics = Metrics()
        client = AuthClient(self.settings(remote), metrics=metrics, now=clock, clock=clock)
        await client.start()
        with capture_logs() as logs:
            for _ in range(7):
                with pytest.raises(AuthServiceUnavailableError):
                    await client.validate("canary")
        await client.close()
        assert "canary" not in repr(logs)
        text = metrics.render()[0].decode()
        assert "canary" not in text
        assert (
            'session_external_service_requests_total{operation="validate",service="auth",status="unavailable"} 5.0'
            in text
        )
        assert 'session_circuit_breaker_state{service="auth"} 1.0' in text
