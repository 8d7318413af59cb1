"""Fetch a small document from somebody who may not be what they seem.

Bounded in time and size, never led elsewhere, and in production never into a private
network. What the document says is for whoever asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from chatkeep.kept_connections import SHORT_S, KeptConnections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

MAX_DOCUMENT_BYTES: Final = 256 * 1024
DEADLINE_S: Final = 5.0

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


class FetchFailed(Exception):
    """There is no such document to be had; the text says why, and *status* what was answered."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        """Keep both."""
        self.status = status
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was fetched, and what time its server thinks it is, if it says."""

    body: bytes
    date: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What somebody said to what they were sent, whether they liked it or not."""

    status: int
    body: bytes = field(repr=False)


def require_fetchable(url: str, *, public_only: bool) -> None:
    """Refuse an address that `fetch` may not be asked for.

    Raises:
        ValueError: it is not https although it must be, or no address of the web at all.
    """
    scheme = urlsplit(url).scheme
    if scheme not in ({"https"} if public_only else {"http", "https"}):
        raise ValueError("it is asked over https only" if public_only else "it is no web address")


async def fetch(
    url: str, *, public_only: bool, headers: Mapping[str, str] | None = None
) -> Document:
    """Return the document at *url*.

    *public_only* (production) takes https addresses that lead to the public internet and
    nothing else.

    Raises:
        FetchFailed: nobody is there, or the answer is not what was asked for.
        ValueError: *url* is none that may be fetched.
    """
    async with _asked("GET", url, public_only=public_only, headers=headers) as response:
        if response.status != 200:  # noqa: PLR2004 -- the only answer that has the document
            raise FetchFailed(f"it answered {response.status}", status=response.status)
        body = await _body(response)
        return Document(body=body, date=_moment(response.headers.get("Date")))


async def send_form(
    url: str,
    form: Mapping[str, str],
    *,
    public_only: bool,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send *form* to *url*, by the rules of `fetch`, and return what is said to it.

    Raises:
        FetchFailed: nobody is there, or it cannot be read.
        ValueError: *url* is none that may be asked.
    """
    async with _asked("POST", url, public_only=public_only, headers=headers, body=form) as response:
        return Reply(status=response.status, body=await _body(response))


async def send_json(
    url: str,
    body: Mapping[str, object],
    *,
    public_only: bool,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send *body* as JSON to *url*, as `send_form` sends a form; raises as that does."""
    said = {**(headers or {}), "Content-Type": "application/json"}
    encoded = msgspec.json.encode(body)
    async with _asked("POST", url, public_only=public_only, headers=said, body=encoded) as response:
        return Reply(status=response.status, body=await _body(response))


async def post(
    url: str,
    body: bytes,
    *,
    public_only: bool,
    headers: Mapping[str, str],
    deadline_s: float = DEADLINE_S,
) -> int:
    """Send *body* to *url* as it is, by the rules of `fetch`; return the status, and read no more.

    Raises as `send_form`, after *deadline_s* too.
    """
    asked = _asked(
        "POST", url, public_only=public_only, headers=headers, body=body, deadline_s=deadline_s
    )
    async with asked as response:
        return response.status


def guarded_connector(*, public_only: bool) -> aiohttp.TCPConnector:
    """Return what connects anywhere, or with *public_only* to the public internet alone."""
    return KeptConnections(
        socket_factory=_sockets(public_only=public_only), keepalive_timeout=SHORT_S
    )


@asynccontextmanager
async def _asked(
    method: str,
    url: str,
    *,
    public_only: bool,
    headers: Mapping[str, str] | None,
    body: Mapping[str, str] | bytes | None = None,
    deadline_s: float = DEADLINE_S,
) -> AsyncIterator[aiohttp.ClientResponse]:
    require_fetchable(url, public_only=public_only)
    # Fetches are minutes apart: a session of its own leaves no idle connection behind and
    # nothing to close.
    connector = aiohttp.TCPConnector(
        socket_factory=_sockets(public_only=public_only), force_close=True
    )
    try:
        async with (
            asyncio.timeout(deadline_s),
            aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.request(
                method,
                url,
                data=body,
                headers={**_HEADERS, **(headers or {})},
                allow_redirects=False,
            ) as response,
        ):
            yield response
    except (aiohttp.ClientError, OSError) as error:
        raise FetchFailed(str(error) or type(error).__name__) from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise FetchFailed("the answer is compressed although we asked for none")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_DOCUMENT_BYTES:
            raise FetchFailed(f"the answer has more than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(body)


def _moment(date: str | None) -> datetime | None:
    """Return the moment that a `Date` header names (RFC 9110 section 6.6.1)."""
    try:
        return parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _sockets(*, public_only: bool) -> aiohttp.SocketFactoryType | None:
    return _public_socket if public_only else None


def _public_socket(address: tuple[Any, ...]) -> socket.socket:
    """Make the socket for an address that a name really led to, if it is a public one.

    Asked with the address about to be connected to, so a name that resolves differently
    the second time gains nothing.
    """
    family, kind, protocol, _, (host, *_) = address
    if not is_public(host):
        raise OSError(f"{host} is not a public address")
    return socket.socket(family=family, type=kind, proto=protocol)


def is_public(host: str) -> bool:
    """Whether *host*, an IP address, is on the public internet, whatever it is wrapped in."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or _translated(address)
        if inner is not None:
            address = inner
    is_inside = any(address in network for network in _INSIDE)
    return address.is_global and not address.is_multicast and not is_inside


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address behind NAT64
#: What Python, or some versions of it, take for public, and no one address of the internet is.
_INSIDE: Final = (
    ipaddress.ip_network("192.0.0.0/24"),  # RFC 6890; a cloud tells its secrets at 192.0.0.192
    ipaddress.ip_network("192.88.99.0/24"),  # RFC 7526: whatever relay of 6to4 is near
    ipaddress.ip_network("::/96"),  # RFC 4291: IPv4 addresses as IPv6 once wrote them
    ipaddress.ip_network("::ffff:0:0:0/96"),  # RFC 2765: the same, translated
    ipaddress.ip_network("64:ff9b:1::/48"),  # RFC 8215: IPv4 behind a NAT64 of one's own
    ipaddress.ip_network("3fff::/20"),  # RFC 9637: of documents
    ipaddress.ip_network("5f00::/16"),  # RFC 9602: inside one provider's network
    ipaddress.ip_network("fec0::/10"),  # RFC 3879: sites, before fc00::/7
)


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(address.packed[-4:])
    return None
