"""The matrix of tokens: what is accepted, and every way to be refused (docs/authentication.md)."""

import base64
import hashlib
import hmac
import json
import warnings
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from session_service.clients.token_signer import sign_token
from session_service.clients.token_verifier import (
    LAST_INSTANT_S,
    ClaimRules,
    VerificationKey,
    claims_of,
    hmac_key,
    identity_from_claims,
    parse,
    scopes_from,
    unverified_expiry,
    user_id_from,
    verify_signature,
)
from session_service.domain.identity import Identity
from session_service.errors import AuthenticationError

SECRET = "a-secret-of-at-least-thirty-two-bytes"
NOW_S = 1_800_000_000.0
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
CLAIMS: dict[str, Any] = {"sub": "user-1", "exp": NOW_S + 3600}


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(header: object = HEADER, claims: object = CLAIMS, secret: str = SECRET, digest: str = "sha256") -> str:
    """A compact JWS whose HMAC is right, whatever the header and the claims say."""
    signing_input = f"{part(header)}.{part(claims)}"
    signature = hmac.new(secret.encode(), signing_input.encode(), getattr(hashlib, digest)).digest()
    return f"{signing_input}.{part(signature)}"


def with_header(**members: Any) -> str:
    return token(header=HEADER | members)


def with_claims(**claims: Any) -> str:
    """``CLAIMS`` with some changed; a claim given as ``...`` is left out."""
    merged = CLAIMS | claims
    return token(claims={name: value for name, value in merged.items() if value is not ...})


ANY = ClaimRules()


def verify(text: str, rules: ClaimRules = ANY, now_s: float = NOW_S) -> Identity:
    parsed = parse(text)
    verify_signature(parsed, "HS256", [hmac_key(SECRET, "HS256")])
    return identity_from_claims(claims_of(parsed), rules, now_s)


ACCEPTED: dict[str, tuple[str, str]] = {
    "plain": (token(), "user-1"),
    "no typ": (token(header={"alg": "HS256"}), "user-1"),
    "typ in lower case": (with_header(typ="jwt"), "user-1"),
    "an access token of RFC 9068": (with_header(typ="AT+JWT"), "user-1"),
    "the long form of its type": (with_header(typ="application/at+jwt"), "user-1"),
    "a key id, which a secret has no use for": (with_header(kid="any"), "user-1"),
    "headers that would choose a key are ignored": (
        with_header(
            jku="https://evil.example/keys", x5u="https://evil.example/c", jwk={"kty": "oct", "k": "AA"}, x5c=["x"]
        ),
        "user-1",
    ),
    "an integer user": (with_claims(sub=42), "42"),
    "a negative one": (with_claims(sub=-7), "-7"),
    "one beyond 64 bits": (with_claims(sub=10**30), "1" + "0" * 30),
    "a name of the longest length": (with_claims(sub="u" * 255), "u" * 255),
    "a name of another alphabet": (with_claims(sub="Ωmega 𝄞"), "Ωmega 𝄞"),
    "exp with a fraction": (with_claims(exp=NOW_S + 0.5), "user-1"),
    "exp just within the leeway": (with_claims(exp=NOW_S - 29.9), "user-1"),
    "nbf and iat just within the leeway": (with_claims(nbf=NOW_S + 30, iat=NOW_S + 30), "user-1"),
    "an audience that nobody asked for": (with_claims(aud="elsewhere", iss="somebody"), "user-1"),
    "an unknown claim": (with_claims(role={"deep": [1]}), "user-1"),
}


@pytest.mark.parametrize(("text", "user_id"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(text: str, user_id: str) -> None:
    assert verify(text).user_id == user_id


HEAD, BODY, SIGNATURE = token().split(".")

REFUSED: dict[str, str] = {
    # shape
    "nothing": "",
    "a word": "token",
    "two parts": f"{HEAD}.{BODY}",
    "no signature": f"{HEAD}.{BODY}.",
    "no header": f".{BODY}.{SIGNATURE}",
    "four parts": f"{token()}.{SIGNATURE}",
    "three dots": "...",
    "five parts, as an encrypted one has": f"{token()}.a.b",
    "padding appended": token() + "=",
    "padding inside": f"{HEAD}=.{BODY}.{SIGNATURE}",
    "a space before": " " + token(),
    "a line feed after": token() + "\n",
    "a scheme before": "Bearer " + token(),
    "a part of impossible length": f"{HEAD}.{BODY}.{SIGNATURE[:-2]}",
    "the other base64 alphabet": f"{HEAD}.{BODY}.++++",
    "another spelling of the same signature": token()[:-1] + chr(ord(token()[-1]) + 1),
    "letters that only look like ours": token().replace("e", "\u0435"),
    "full-width digits": token() + "\uff11",
    "a lone surrogate": token() + "\ud800",
    "a NUL": token() + "\x00",
    "more than 8 KiB": with_claims(filler="x" * 8192),
    # header
    "a header that is no JSON": token(header=b"{"),
    "a header that is not UTF-8": token(header=b'{"alg":"HS256","x":"\xff"}'),
    "a header that is a list": token(header=["HS256"]),
    "a header of deep JSON": token(header=b"[" * 3000 + b"]" * 3000),
    "no algorithm": token(header={"typ": "JWT"}),
    "an algorithm that is a list": with_header(alg=["HS256"]),
    "algorithm none": f"{part(HEADER | {'alg': 'none'})}.{BODY}.{SIGNATURE}",
    "algorithm none without a signature": f"{part(HEADER | {'alg': 'none'})}.{BODY}.",
    "algorithm None, signed": with_header(alg="None"),
    "the algorithm in lower case": with_header(alg="hs256"),
    "a stronger algorithm than the configured one": token(header=HEADER | {"alg": "HS512"}, digest="sha512"),
    "another family": with_header(alg="RS256"),
    "critical extensions": with_header(crit=["exp"], exp=1),
    "an unencoded payload": with_header(crit=["b64"], b64=False),
    "an empty list of critical extensions": with_header(crit=[]),
    "an identity token's type": with_header(typ="id+jwt"),
    "an empty type": with_header(typ=""),
    "a type that is null": with_header(typ=None),
    "a type that is a number": with_header(typ=1),
    "a key id that is a path's list": with_header(kid=["../../dev/null"]),
    # signature
    "another key": token(secret="another-secret-of-at-least-32-bytes"),
    "claims exchanged": f"{HEAD}.{part(CLAIMS | {'sub': 'admin'})}.{SIGNATURE}",
    "header exchanged": f"{part(HEADER | {'kid': 'x'})}.{BODY}.{SIGNATURE}",
    "a signature cut short": f"{HEAD}.{BODY}.{part(base64.urlsafe_b64decode(SIGNATURE + '=')[:16])}",
    # payload and times
    "a payload that is no JSON": token(claims=b"sub=user-1"),
    "a payload that is a string": token(claims="user-1"),
    "no exp": with_claims(exp=...),
    "exp null": with_claims(exp=None),
    "exp a string": with_claims(exp=str(int(NOW_S + 3600))),
    "exp a boolean": with_claims(exp=True),
    "exp a list": with_claims(exp=[NOW_S + 3600]),
    "exp infinite": token(claims=b'{"sub":"u","exp":Infinity}'),
    "exp not a number": token(claims=b'{"sub":"u","exp":NaN}'),
    "exp beyond floats": token(claims=b'{"sub":"u","exp":1e999}'),
    "exp an integer beyond floats": with_claims(exp=10**400),
    "exp in milliseconds": with_claims(exp=int((NOW_S + 3600) * 1000)),
    "expired": with_claims(exp=NOW_S - 30),
    "expired long ago": with_claims(exp=0),
    "not yet": with_claims(nbf=NOW_S + 31),
    "nbf a string": with_claims(nbf="0"),
    "issued in the future": with_claims(iat=NOW_S + 31),
    "iat null": with_claims(iat=None),
    # user
    "no user": with_claims(sub=...),
    "user null": with_claims(sub=None),
    "user empty": with_claims(sub=""),
    "user blank": with_claims(sub=" \t"),
    "user a boolean": with_claims(sub=True),
    "user a fraction": with_claims(sub=4.0),
    "user a list": with_claims(sub=["user-1"]),
    "user an object": with_claims(sub={"id": 1}),
    "user too long": with_claims(sub="u" * 256),
    "user a number too long": with_claims(sub=10**255),
    "user of 5,000 digits": token(claims=b'{"exp":1800003600,"sub":' + b"9" * 5000 + b"}"),
    "user with a NUL": with_claims(sub="user\x00"),
    "user with a line feed": with_claims(sub="user\n1"),
    "user with a C1 control character": with_claims(sub="user\x85"),
    "user with a lone surrogate": token(claims=b'{"exp":1800003600,"sub":"a\\ud800b"}'),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_refuses(text: str) -> None:
    with pytest.raises(AuthenticationError) as refused:
        verify(text)
    assert str(refused.value) == "Authentication failed"
    assert refused.value.reason


RULES = ClaimRules(issuer="https://issuer.example", audience="session-service")


@pytest.mark.parametrize("audience", ["session-service", ["session-service"], ["other", "session-service"]])
def test_issuer_and_audience_where_configured(audience: object) -> None:
    assert verify(with_claims(iss="https://issuer.example", aud=audience), RULES).user_id == "user-1"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": ...},
        {"iss": "https://issuer.example/"},
        {"iss": ["https://issuer.example"]},
        {"iss": "HTTPS://ISSUER.EXAMPLE"},
        {"aud": ...},
        {"aud": "session"},
        {"aud": "session-service "},
        {"aud": ["session"]},
        {"aud": []},
        {"aud": {"session-service": 1}},
        {"aud": None},
    ],
    ids=str,
)
def test_another_issuer_or_audience_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(AuthenticationError):
        verify(with_claims(**{"iss": "https://issuer.example", "aud": "session-service"} | claims), RULES)


def test_the_user_claim_is_the_configured_one() -> None:
    assert verify(with_claims(sub=..., userId=7), ClaimRules(user_claim="userId")).user_id == "7"
    with pytest.raises(AuthenticationError):
        verify(token(), ClaimRules(user_claim="userId"))


def test_an_identity_ends_at_exp_without_the_leeway() -> None:
    assert verify(with_claims(exp=NOW_S - 10)).expires_at == NOW_S - 10
    assert verify(with_claims(exp=LAST_INSTANT_S)).expires_at == LAST_INSTANT_S


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("sandbox simulators", {"sandbox", "simulators"}),
        ("  sandbox  ", {"sandbox"}),
        (["sandbox", "simulators"], {"sandbox", "simulators"}),
        ("", set()),
        (None, set()),
        (["sandbox", 1], set()),
        ({"sandbox": True}, set()),
        (True, set()),
    ],
)
def test_scopes(scope: object, scopes: set[str]) -> None:
    assert scopes_from(scope) == scopes
    assert verify(with_claims(scope=scope)).scopes == scopes


def test_the_previous_key_is_accepted_beside_the_current_one() -> None:
    keys = [hmac_key("the-new-secret-of-at-least-32-bytes", "HS256"), hmac_key(SECRET, "HS256")]
    verify_signature(parse(token()), "HS256", keys)
    with pytest.raises(AuthenticationError):
        verify_signature(parse(token()), "HS256", keys[:1])


def test_a_weak_key_makes_no_noise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verify_signature(parse(token(secret="weak")), "HS256", [hmac_key("weak", "HS256")])
        assert sign_token("weak", "HS256", "u", now_s=NOW_S, ttl_s=60)


def test_an_empty_secret_is_no_key() -> None:
    with pytest.raises(ValueError, match="empty"):
        hmac_key("", "HS256")


def test_a_public_key_is_no_secret() -> None:
    """The classic confusion: a token signed by HMAC with the issuer's public key as the secret."""
    public = rsa.generate_private_key(65537, 2048).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    forged = parse(token(secret=pem.decode()))
    with pytest.raises(AuthenticationError):
        verify_signature(forged, "RS256", [VerificationKey("RS256", public)])
    with pytest.raises(ValueError, match="asymmetric"):
        hmac_key(pem.decode(), "HS256")


PRIVATE_KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "PS384": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_asymmetric_signatures(algorithm: str) -> None:
    private = PRIVATE_KEYS[algorithm]
    key = VerificationKey(algorithm, private.public_key())
    good = jwt.encode(CLAIMS, private, algorithm)
    verify_signature(parse(good), algorithm, [key])
    head, body, signature = good.split(".")
    for bad in (part(b"\0" * 64), part(b"\0"), signature[:4], part(b"\xff" * 5000)):
        with pytest.raises(AuthenticationError):
            verify_signature(parse(f"{head}.{body}.{bad}"), algorithm, [key])
    with pytest.raises(AuthenticationError):
        verify_signature(parse(good), algorithm, [])
    other = "RS256" if algorithm != "RS256" else "RS512"
    with pytest.raises(AuthenticationError):
        verify_signature(parse(good), other, [key])


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}", fullmatch=True))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with pytest.raises(AuthenticationError):
        verify(text)
    assert unverified_expiry(text) is None


@given(st.integers(0, len(token()) - 1), st.characters())
def test_no_character_can_be_exchanged(position: int, character: str) -> None:
    changed = token()[:position] + character + token()[position + 1 :]
    if changed != token():
        with pytest.raises(AuthenticationError):
            verify(changed)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["sub", "exp", "nbf", "iat", "iss", "aud", "scope"], json_values)
    )
)
def test_any_claims_give_an_identity_or_a_refusal(claims: dict[str, Any]) -> None:
    try:
        identity = identity_from_claims(claims, ClaimRules(), NOW_S)
    except AuthenticationError:
        return
    assert identity.user_id
    assert identity.expires_at > NOW_S - 30


@given(st.integers(-(10**254), 10**254))
def test_an_integer_user_is_its_decimal_text(number: int) -> None:
    assert user_id_from(number) == str(number)


class TestSigning:
    def test_what_is_signed_is_accepted(self) -> None:
        signed = sign_token(
            SECRET, "HS256", "user-1", now_s=NOW_S, ttl_s=60, scope="sandbox simulators", issuer="i", audience="a"
        )
        identity = verify(signed, ClaimRules(issuer="i", audience="a"))
        assert identity == Identity("user-1", NOW_S + 60, frozenset({"sandbox", "simulators"}))
        assert jwt.decode(signed, SECRET, ["HS256"], audience="a", options={"verify_exp": False, "verify_iat": False})

    def test_what_is_not_given_is_not_claimed(self) -> None:
        signed = sign_token(SECRET, "HS384", "7", now_s=NOW_S, ttl_s=60, user_claim="userId")
        assert claims_of(parse(signed)) == {"userId": "7", "iat": NOW_S, "exp": NOW_S + 60}

    @pytest.mark.parametrize(("secret", "algorithm"), [("", "HS256"), (SECRET, "RS256"), (SECRET, "none")])
    def test_needs_a_secret_and_an_hmac(self, secret: str, algorithm: str) -> None:
        with pytest.raises(ValueError, match=r"secret|empty"):
            sign_token(secret, algorithm, "u", now_s=NOW_S, ttl_s=60)
