"""The keys an issuer publishes at an address: fetched seldom, kept through outages.

One `JwksClient` stands for one issuer's address. It asks rarely enough that no flood of
forged tokens reaches the issuer, often enough that a removed key is noticed, and treats
the answer as hostile: bounded in time, size and number, never followed elsewhere. It
decides nothing about tokens.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep.errors import IssuerUnavailable, TokenInvalid
from chatkeep.fetching import DEADLINE_S, FetchFailed, fetch, require_fetchable
from chatkeep.tokens import Header, Key, KeySet, read_key_set

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

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

_NEVER = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlace:
    """Where an issuer publishes its keys, and for which algorithms they are taken."""

    url: str
    algorithms: tuple[str, ...]


class JwksClient:
    """The keys at *url*, as a `KeySource`.

    *public_only* (production) takes https addresses that lead to the public internet and
    nothing else. *locate* finds out where the keys are each time before they are fetched,
    for an issuer that only says so itself; *url* is then just its name. *clock* gives
    seconds that never go back.

    Raises:
        ValueError: *url* is no address to fetch from, or is not https although it must be.
    """

    def __init__(
        self,
        url: str,
        *,
        algorithms: Iterable[str],
        public_only: bool = True,
        locate: Callable[[], Awaitable[KeyPlace]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember where to ask; nothing is fetched before somebody needs a key."""
        require_fetchable(url, public_only=public_only)
        self.url = url
        self._place = KeyPlace(url=url, algorithms=tuple(algorithms))
        self._locate = locate
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
        try:
            async with asyncio.timeout(DEADLINE_S):
                place = self._place if self._locate is None else await self._locate()
                document = await fetch(place.url, public_only=self._public_only)
                self._take(document.body, place.algorithms)
        except (FetchFailed, ValueError, TimeoutError) as error:
            self._failed_at = self._clock()
            reason = str(error) or type(error).__name__
            _log.warning("no keys from %s: %s; keeping %d", self.url, reason, len(self._keys))
        else:
            self._fetched_at, self._failed_at = began, _NEVER
        finally:
            self._flight = None

    def _take(self, document: bytes, algorithms: tuple[str, ...]) -> None:
        """Use the keys in *document*; the same document again is not a new generation."""
        if document == self._document:
            return
        published = read_key_set(document, algorithms=algorithms)
        for reason in published.left_out:
            _log.warning("a key from %s is left out: %s", self.url, reason)
        self._keys, self._document = published.keys, document
