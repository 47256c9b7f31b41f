"""What makes a bearer token acceptable: RFC 7515 (JWS compact form), RFC 7519 (claims), and docs/authentication.md.

Pure: keys and the time are arguments. PyJWT does the cryptography only, because its own checks are looser than the
rules here: it ignores ``typ``, takes an empty ``sub`` or one with padding appended, and refuses an integer ``sub``.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import jwt
import msgspec

from session_service.domain.identity import Identity
from session_service.errors import AuthenticationError

MAX_TOKEN_BYTES = 8192
LEEWAY_S = 30.0
MAX_USER_ID_CHARS = 255
LAST_INSTANT_S = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that RFC 3339 can write

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})  # RFC 7519 §5.1, RFC 9068 §2.1
_json = msgspec.json.Decoder()


class Header(msgspec.Struct, frozen=True):
    """The members of a JOSE header that count. ``jku``, ``x5u``, ``jwk`` and ``x5c`` are never looked at: a token
    must not choose the key that it is verified with."""

    algorithm: str
    key_id: str | None


class UnverifiedToken(msgspec.Struct, frozen=True):
    """A well-formed compact JWS. ``payload`` is worth nothing until ``verify_signature`` was passed."""

    header: Header
    payload: bytes
    signing_input: bytes
    signature: bytes


class VerificationKey(msgspec.Struct, frozen=True):
    """A key for one algorithm: ``material`` is what PyJWT's algorithm object works with, ``key_id`` its ``kid``."""

    algorithm: str
    material: Any
    key_id: str | None = None


class ClaimRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which claims a token must have. ``issuer`` and ``audience`` are checked where they are not None."""

    user_claim: str = "sub"
    issuer: str | None = None
    audience: str | None = None
    leeway_s: float = LEEWAY_S


def parse(token: str) -> UnverifiedToken:
    """Take a compact JWS apart. Raises AuthenticationError for anything that is not exactly one.

    Exactly means: at most 8 KiB; three non-empty base64url parts without padding whose last characters carry no
    stray bits, so that a token has one spelling only; a header that is a JSON object with a known ``typ`` or none,
    and no ``crit``, since we understand no extension (RFC 7515 §4.1.11).
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise AuthenticationError("token too long")
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise AuthenticationError("not a compact JWS")
    header = _json_object(_base64url(match[1]), "header")
    if "crit" in header:
        raise AuthenticationError("critical header extension")
    token_type = header.get("typ")
    if "typ" in header and (not isinstance(token_type, str) or token_type.lower() not in _TYPES):
        raise AuthenticationError("typ is not that of an access token")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise AuthenticationError("no algorithm")
    if key_id is not None and not isinstance(key_id, str):
        raise AuthenticationError("kid is no string")
    return UnverifiedToken(
        header=Header(algorithm, key_id),
        payload=_base64url(match[2]),
        signing_input=token[: match.end(2)].encode("ascii"),
        signature=_base64url(match[3]),
    )


def hmac_key(secret: str, algorithm: str) -> VerificationKey:
    """A shared secret as a key. Raises ValueError for an empty one and for one that is really a public key."""
    try:
        material = jwt.get_algorithm_by_name(algorithm).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError(str(error)) from None
    return VerificationKey(algorithm, material)


def verify_signature(token: UnverifiedToken, algorithm: str, keys: Sequence[VerificationKey]) -> None:
    """Raise AuthenticationError unless one of ``keys`` signed the token by the configured ``algorithm``.

    The header's algorithm must be the configured one; it never selects anything (RFC 8725 §3.1).
    """
    if token.header.algorithm != algorithm:
        raise AuthenticationError("another algorithm than the configured one")
    implementation = jwt.get_algorithm_by_name(algorithm)
    for key in keys:
        if key.algorithm == algorithm and implementation.verify(token.signing_input, key.material, token.signature):
            return
    raise AuthenticationError("signature does not match")


def claims_of(token: UnverifiedToken) -> dict[str, Any]:
    """The payload as a JSON object. Raises AuthenticationError where it is none."""
    return _json_object(token.payload, "payload")


def identity_from_claims(claims: dict[str, Any], rules: ClaimRules, now_s: float) -> Identity:
    """Check a verified token's claims at Unix time ``now_s``. Raises AuthenticationError.

    ``exp`` is required; it, ``nbf`` and ``iat`` are numbers and have ``rules.leeway_s``. ``Identity.expires_at`` is
    ``exp`` itself, without the leeway.
    """
    expires_at = _instant(claims, "exp")
    if expires_at is None:
        raise AuthenticationError("no exp")
    if now_s >= expires_at + rules.leeway_s:
        raise AuthenticationError("expired")
    for claim in ("nbf", "iat"):
        instant = _instant(claims, claim)
        if instant is not None and instant > now_s + rules.leeway_s:
            raise AuthenticationError(f"{claim} is in the future")
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise AuthenticationError("another issuer")
    if rules.audience is not None:
        audience = claims.get("aud")
        if audience != rules.audience and not (isinstance(audience, list) and rules.audience in audience):
            raise AuthenticationError("another audience")
    return Identity(user_id_from(claims.get(rules.user_claim)), expires_at, scopes_from(claims.get("scope")))


def user_id_from(value: Any) -> str:
    """A user id: 1 to 255 characters, not blank, no control characters; or an integer, as its decimal text.

    Raises AuthenticationError for everything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        # Compared before it is written out: writing a number of thousands of digits is slow, or refused.
        if abs(value) >= 10**MAX_USER_ID_CHARS:
            raise AuthenticationError("user claim too long")
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise AuthenticationError("no user claim")
    if len(value) > MAX_USER_ID_CHARS:
        raise AuthenticationError("user claim too long")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise AuthenticationError("control character in the user claim")
    return value


def scopes_from(value: Any) -> frozenset[str]:
    """Scopes of a space-separated string (RFC 8693 §4.2) or a list of strings. Anything else grants nothing."""
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return frozenset(value)
    return frozenset()


def unverified_expiry(token: str) -> float | None:
    """The ``exp`` of something that may be a JWT, unverified, or None: only ever to trust a verdict for less long."""
    try:
        return _instant(claims_of(parse(token)), "exp")
    except AuthenticationError:
        return None


def _instant(claims: dict[str, Any], claim: str) -> float | None:
    """A NumericDate (RFC 7519 §2) in seconds, or None where the claim is absent."""
    if claim not in claims:
        return None
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AuthenticationError(f"{claim} is no number")
    # In this order: isfinite() cannot take an integer beyond the floats.
    if abs(value) > LAST_INSTANT_S or not math.isfinite(value):
        raise AuthenticationError(f"{claim} is out of range")
    return float(value)


def _json_object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = _json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise AuthenticationError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise AuthenticationError(f"{what} is no JSON object")
    return value


def _base64url(part: str) -> bytes:
    """Decode canonical base64url without padding (RFC 7515 §2). Raises AuthenticationError."""
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise AuthenticationError("not base64url") from None
    # The last character may carry bits that decoding drops: another spelling of the same token.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode("ascii") != part:
        raise AuthenticationError("not canonical base64url")
    return decoded
