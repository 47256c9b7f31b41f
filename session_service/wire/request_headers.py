"""What a request's headers tell of its client: the Bearer token, the address, the program. Pure."""

from __future__ import annotations

from multidict import MultiMapping

from session_service.domain.identity import ClientInfo
from session_service.errors import AuthenticationError
from session_service.wire.proxies import TrustedNetworks, client_address

MAX_USER_AGENT_LENGTH = 512


def bearer_token(headers: MultiMapping[str]) -> str | None:
    """The token of the Authorization header (RFC 6750 §2.1); None where there is no such header.

    Raises AuthenticationError for several of them, another scheme, or an empty token.
    """
    values = headers.getall("Authorization", ())
    if not values:
        return None
    if len(values) > 1:
        raise AuthenticationError("several Authorization headers")
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise AuthenticationError("not a Bearer token")
    return token


def client_info(peer: str | None, headers: MultiMapping[str], trusted: TrustedNetworks) -> ClientInfo:
    """Address (through trusted proxies) and User-Agent, the latter cut and made printable for the database."""
    user_agent = headers.get("User-Agent")
    if user_agent is not None:
        user_agent = user_agent[:MAX_USER_AGENT_LENGTH]
        if not user_agent.isprintable():
            user_agent = "".join(character if character.isprintable() else "?" for character in user_agent)
    return ClientInfo(client_address(peer, headers, trusted), user_agent)
