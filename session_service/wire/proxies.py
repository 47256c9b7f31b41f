"""Who really called, when proxies stand between: X-Forwarded-For, -Proto and -Host, believed from trusted peers only.

Pure. The headers are hearsay: a peer outside ``TRUSTED_PROXIES`` is taken for the client itself, whatever it claims.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from multidict import MultiMapping

TrustedNetworks = tuple[IPv4Network | IPv6Network, ...]

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_MAX_HOPS = (
    32  # entries of X-Forwarded-For that are looked at: a header of thousands must not cost thousands of parses
)


def trusted_networks(values: Iterable[str]) -> TrustedNetworks:
    """The networks of TRUSTED_PROXIES; a single address is a network of one. Raises ValueError for anything else."""
    return tuple(ip_network(value, strict=False) for value in values)


def client_address(peer: str | None, headers: MultiMapping[str], trusted: TrustedNetworks) -> str | None:
    """The client's IP address as text, without port or zone; ``peer`` is the TCP peer's, None for a Unix socket.

    X-Forwarded-For is read from the right, one hop for each trusted proxy. The first address that is not a trusted
    proxy is the client: what stands left of it was sent by the client and proves nothing. An entry that is no
    address ends the walk at the proxy that reported it.
    """
    if not trusted and peer and ":" not in peer:
        return peer  # the kernel wrote it: nothing to check, and parsing it costs more than the rest of this call
    address = _address(peer)
    if address is None:
        return None
    if not trusted or not _is_trusted(address, trusted):
        return str(address)
    # Some proxies append a header line instead of a value: all lines together are the list (RFC 9110 §5.3).
    forwarded_for = ",".join(headers.getall("X-Forwarded-For", ()))
    for hop in reversed(forwarded_for.rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]):
        reported = _address(hop.strip())
        if reported is None:
            break
        address = reported
        if not _is_trusted(address, trusted):
            break
    return str(address)


def external_origin(
    scheme: str, host: str, headers: MultiMapping[str], peer: str | None, trusted: TrustedNetworks
) -> str:
    """The origin (RFC 6454 §6.1) under which the client addressed this service, such as ``https://app.example.com``.

    ``scheme`` is http or https, ``host`` the Host header. A trusted peer's X-Forwarded-Proto and -Host replace them;
    of several values the first counts, which the outermost proxy wrote. A page in a browser cannot set these headers,
    and the origin check guards browsers only, so a forged first value gains nothing.
    """
    address = _address(peer)
    if address is not None and trusted and _is_trusted(address, trusted):
        forwarded_scheme = _first(headers.get("X-Forwarded-Proto", "")).lower()
        scheme = {"ws": "http", "wss": "https"}.get(forwarded_scheme, forwarded_scheme) or scheme
        host = _first(headers.get("X-Forwarded-Host", "")) or host
    return serialized_origin(scheme, host)


def serialized_origin(scheme: str, host: str) -> str:
    """``scheme://host[:port]``, lower case, without the scheme's default port, as browsers write it."""
    scheme, host = scheme.lower(), host.lower()
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ':'))}"


def _first(value: str) -> str:
    return value.partition(",")[0].strip()


def _is_trusted(address: IPv4Address | IPv6Address, trusted: TrustedNetworks) -> bool:
    return any(address in network for network in trusted)


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    """One address as proxies write it: bare, with a port, in brackets, with a zone. IPv4-mapped IPv6 becomes IPv4."""
    if not text:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
