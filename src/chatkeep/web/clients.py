"""Where a request comes from: its client's address and scheme.

A forwarded header counts only when the connection itself comes from a trusted proxy;
otherwise anybody could choose their own address. The client is the rightmost address
that is not a trusted proxy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from starlette.types import Scope

_FORWARDED_AT_MOST = 32
_UNKNOWN = "unknown"
#: A WebSocket begins as a request, and its page is at the address of that.
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end. *address* is canonical text, or 'unknown'."""

    address: str
    scheme: str

    @property
    def bucket(self) -> str:
        """What limits are counted by: the address, or its /64 in IPv6 (one customer's net)."""
        if ":" not in self.address:
            return self.address
        return str(ip_network(f"{self.address}/64", strict=False))


class TrustedProxies:
    """The proxies whose forwarded headers are believed."""

    def __init__(self, networks: Sequence[str]) -> None:
        """Take addresses or networks; raises ValueError for anything else."""
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(network, strict=False) for network in networks
        ]

    def vouch_for(self, scope: Scope) -> bool:
        """Whether what the connection says of the request comes from a trusted proxy."""
        peer = _peer(scope["client"][0]) if scope.get("client") else None
        return peer is not None and self._trusts(peer)

    def client_of(self, scope: Scope) -> Client:
        """Return the client of an HTTP connection."""
        peer = _peer(scope["client"][0]) if scope.get("client") else None
        scheme = _SCHEMES.get(said := str(scope["scheme"]), said)
        if peer is None or not self._trusts(peer):
            return Client(str(peer or _UNKNOWN), scheme)
        return Client(self._forwarded_address(scope, peer), _forwarded_scheme(scope) or scheme)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)

    def _forwarded_address(self, scope: Scope, peer: IPv4Address | IPv6Address) -> str:
        hops = _header(scope, b"x-forwarded-for").split(",")[-_FORWARDED_AT_MOST:]
        for hop in reversed(hops):
            address = _parse(hop.strip())
            if address is None:
                break
            if not self._trusts(address):
                return str(address)
            peer = address
        return str(peer)


@lru_cache(4096)  # of addresses, which nobody can make long
def _peer(text: str) -> IPv4Address | IPv6Address | None:
    """Return whose connection it is: a client comes with many requests, one after the other."""
    return _parse(text)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    if text.count(":") == 1:  # IPv4 with a port
        text = text.partition(":")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    try:
        # A zone names a wire of the machine that saw it: "fe80::1%eth0" is no other client
        # than "fe80::1", and what follows the sign can be any text.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _forwarded_scheme(scope: Scope) -> str | None:
    """The scheme the last proxy saw; a list means several proxies, the last one is ours."""
    scheme = _header(scope, b"x-forwarded-proto").split(",")[-1].strip().lower()
    return _SCHEMES.get(scheme)


def _header(scope: Scope, name: bytes) -> str:
    found = [value for key, value in scope["headers"] if key == name]
    return b",".join(found).decode("latin-1")
