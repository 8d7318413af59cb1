"""The names that a request calls this server by.

A `Host` header is the client's word. Nothing is built from it, no route is chosen by it;
here it is only looked at: whether it is a name at all, whether it is ours in production,
and whether it is this very machine.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chatkeep.errors import BadRequest, ChatkeepError, Misdirected

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv6Address

    from starlette.datastructures import Headers

# RFC 9112 section 3.2: uri-host, and a port. No user, no path, nothing to smuggle.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]+))(?::[0-9]{1,5})?")


class KnownHosts:
    """Decides by which names this server may be called."""

    def __init__(self, public_url: str | None) -> None:
        """Take every name when *public_url* is None, else its name and this server's addresses."""
        self._own = urlsplit(public_url).hostname if public_url else None

    def problem(self, hosts: Sequence[str]) -> ChatkeepError | None:
        """Return what is wrong with the values of the `Host` header, None when nothing is."""
        if len(hosts) != 1:
            return BadRequest("Send one Host header.")
        name = host_name(hosts[0])
        if name is None:
            return BadRequest("Send the name of a host as the Host header.")
        # Nobody can make somebody else's name out of an address, and probes have no name.
        if self._own in {None, name} or name == "localhost" or _address(name) is not None:
            return None
        return Misdirected()


def host_name(host: str) -> str | None:
    """Return the name in a `Host` header without its port, None when it is none."""
    match = _HOST.fullmatch(host)
    return None if match is None else (match[1] or match[2]).lower()


def names_this_machine(headers: Headers) -> bool:
    """Whether everything that *headers* say about the way of the request is this machine.

    False for a page of another site whose name was pointed at this machine (DNS rebinding),
    and for what a proxy or a tunnel on this machine hands on from elsewhere.
    """
    if "forwarded" in headers:
        return False
    forwarded = ",".join(headers.getlist("x-forwarded-for"))
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    named = [*headers.getlist("host"), *headers.getlist("x-forwarded-host")]
    return all(is_this_machine(host_name(name)) for name in named) and all(
        map(is_this_machine, hops)
    )


def is_this_machine(name: str | None) -> bool:
    """Whether *name*, a name or address without a port, is this machine's; None is nobody's."""
    if name is None:
        return False
    address = _address(name)
    if address is not None:
        return address.is_loopback
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761 section 6.3


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
