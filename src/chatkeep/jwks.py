"""The keys an issuer publishes at an address: fetched seldom, kept through outages.

One `JwksClient` stands for one issuer's address. It asks rarely enough that no flood of
forged tokens reaches the issuer, often enough that a removed key is noticed, and treats
the answer as hostile: bounded in time, size and number, never followed elsewhere. It
decides nothing about tokens.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp

from chatkeep.errors import IssuerUnavailable, TokenInvalid
from chatkeep.tokens import Header, Key, KeySet, read_key_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)

#: From this age on a set is fetched again, behind the back of whoever asked.
REFRESH_AGE_S: Final = 600.0
#: From this age on whoever asks waits for the fetch. So a key that its issuer removed is
#: refused after at most this long, plus what the issuer's own caches add.
MAX_AGE_S: Final = 900.0
#: While the issuer cannot be reached, its last keys work for this long.
MAX_STALE_S: Final = 86_400.0
#: Between two fetches that an unknown key id caused, and after one that failed.
COOLDOWN_S: Final = 15.0
DEADLINE_S: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 256 * 1024

_NEVER = -math.inf
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


class _Refused(Exception):
    """An answer that is not what we asked for; the text says how."""


@dataclass(slots=True, kw_only=True)
class JwksCounters:
    """What a client has done since it was made, for metrics."""

    fetches: int = 0
    failures: int = 0
    rotations: int = 0
    unknown_key_ids: int = 0
    keys_left_out: int = 0


class JwksClient:
    """The keys at *url*, as a `KeySource`.

    *public_only* (production) takes https addresses that lead to the public internet and
    nothing else. *clock* gives seconds that never go back.

    Raises:
        ValueError: *url* is no address to fetch from, or is not https although it must be.
    """

    def __init__(
        self,
        url: str,
        *,
        algorithms: Iterable[str],
        public_only: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember where to ask; nothing is fetched before somebody needs a key."""
        scheme = urlsplit(url).scheme
        if scheme not in ({"https"} if public_only else {"http", "https"}):
            raise ValueError("keys must be fetched over https")
        self.url = url
        self.counters = JwksCounters()
        self._algorithms = tuple(algorithms)
        self._public_only = public_only
        self._clock = clock
        self._keys = KeySet()
        self._document: bytes | None = None
        self._fetched_at = _NEVER  # when the last good answer was asked for
        self._failed_at = _NEVER  # when the last bad one came, if none was good since
        self._asked_at = _NEVER  # when an unknown key id last caused a fetch
        self._flight: asyncio.Task[None] | None = None

    def current(self) -> KeySet | None:
        """Return the keys to verify with now, or None if `find` has to wait for them.

        Starts a fetch in the background when they are due for one.
        """
        age = self._clock() - self._fetched_at
        if age < REFRESH_AGE_S:
            return self._keys
        # When a fetch has failed already, nobody is made to wait for the next one.
        if age < (MAX_AGE_S if self._failed_at == _NEVER else MAX_STALE_S):
            if not self._is_resting():
                self._flight = self._fetch_soon()
            return self._keys
        return None

    async def find(self, header: Header) -> tuple[KeySet, Key]:
        """Return the key for *header*, asking the issuer if need be and allowed.

        Raises:
            TokenInvalid: the issuer has no such key.
            IssuerUnavailable: it could not be asked.
        """
        arrived = self._clock()
        if self.current() is None and not self._is_resting():
            await self._fetch()
        key = self._known().find(header)
        if key is None and self._flight is not None:
            await self._fetch()  # joins the one under way, which may just bring it
            key = self._known().find(header)
        if key is None and self._fetched_at < arrived and self._may_ask():
            self._asked_at = self._clock()
            await self._fetch()
            key = self._known().find(header)
        if key is not None:
            return self._keys, key
        self.counters.unknown_key_ids += 1
        if self._is_resting():
            raise self._unavailable()
        raise TokenInvalid

    async def close(self) -> None:
        """Stop fetching."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    def _known(self) -> KeySet:
        if self._clock() - self._fetched_at < MAX_STALE_S:
            return self._keys
        raise self._unavailable()

    def _unavailable(self) -> IssuerUnavailable:
        wait = self._failed_at + COOLDOWN_S - self._clock()
        return IssuerUnavailable(retry_after_s=math.ceil(max(1.0, wait)))

    def _is_resting(self) -> bool:
        """Whether the last fetch failed so lately that it is not tried again."""
        return self._clock() - self._failed_at < COOLDOWN_S

    def _may_ask(self) -> bool:
        return not self._is_resting() and self._clock() - self._asked_at >= COOLDOWN_S

    async def _fetch(self) -> None:
        # The fetch belongs to nobody: whoever asked first may hang up without taking the
        # others down.
        await asyncio.shield(self._fetch_soon())

    def _fetch_soon(self) -> asyncio.Task[None]:
        """Start a fetch, or return the one under way: there is never a second."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly(), name=f"fetch keys from {self.url}")
        return self._flight

    async def _fly(self) -> None:
        began = self._clock()
        self.counters.fetches += 1
        try:
            async with asyncio.timeout(DEADLINE_S):
                self._take(await self._download())
        except (_Refused, ValueError, aiohttp.ClientError, OSError) as error:
            self.counters.failures += 1
            self._failed_at = self._clock()
            reason = str(error) or type(error).__name__
            _log.warning("no keys from %s: %s; keeping %d", self.url, reason, len(self._keys))
        else:
            self._fetched_at, self._failed_at = began, _NEVER
        finally:
            self._flight = None

    def _take(self, document: bytes) -> None:
        """Use the keys in *document*; the same document again is not a new generation."""
        if document == self._document:
            return
        published = read_key_set(document, algorithms=self._algorithms)
        for reason in published.left_out:
            _log.warning("a key from %s is left out: %s", self.url, reason)
        self.counters.keys_left_out += len(published.left_out)
        self.counters.rotations += self._document is not None
        self._keys, self._document = published.keys, document

    async def _download(self) -> bytes:
        # Fetches are minutes apart: a session of its own leaves no idle connection behind
        # and nothing to close.
        connector = aiohttp.TCPConnector(
            socket_factory=_public_socket if self._public_only else None, force_close=True
        )
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            session.get(self.url, headers=_HEADERS, allow_redirects=False) as response,
        ):
            return await _body(response)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:  # noqa: PLR2004 -- the only answer that has keys
        raise _Refused(f"it answered {response.status}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _Refused("the answer is compressed although we asked for none")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_DOCUMENT_BYTES:
            raise _Refused(f"the answer has more than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(body)


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
    return address.is_global and not address.is_multicast


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address behind NAT64


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(address.packed[-4:])
    return None
