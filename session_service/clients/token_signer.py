"""Signs tokens with the shared secret, for ``session-service token``. Pure."""

from __future__ import annotations

import base64
from typing import Any

import jwt
import msgspec

from session_service.config import HMAC_ALGORITHMS


def sign_token(
    secret: str,
    algorithm: str,
    user_id: str,
    *,
    now_s: float,
    ttl_s: float,
    scope: str = "",
    issuer: str | None = None,
    audience: str | None = None,
    user_claim: str = "sub",
) -> str:
    """A compact JWS (RFC 7515 §7.1) that ends ``ttl_s`` after the Unix time ``now_s``.

    ``scope`` is a space-separated list. Empty or absent claims are left out. Raises ValueError where the algorithm
    is no HMAC or the secret is empty; the secret's strength is the configuration's concern.
    """
    if algorithm not in HMAC_ALGORITHMS:
        raise ValueError(f"{algorithm} does not sign with a shared secret")
    implementation = jwt.get_algorithm_by_name(algorithm)
    try:
        key = implementation.prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError(str(error)) from None
    claims: dict[str, Any] = {user_claim: user_id, "iat": int(now_s), "exp": int(now_s + ttl_s)}
    optional = {"scope": scope, "iss": issuer, "aud": audience}
    claims |= {name: value for name, value in optional.items() if value}
    signing_input = b".".join(_part(member) for member in ({"alg": algorithm, "typ": "JWT"}, claims))
    return (signing_input + b"." + _base64url(implementation.sign(signing_input, key))).decode("ascii")


def _part(value: dict[str, Any]) -> bytes:
    return _base64url(msgspec.json.encode(value))


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
