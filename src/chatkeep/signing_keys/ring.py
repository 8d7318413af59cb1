"""The keys of a running server: the same as in the database, a moment later at most.

Told by NOTIFY to look, and looking every two seconds anyhow, because a notification can be
lost. A token that names an unknown key makes it look before anybody is refused, so that no
request fails while keys change, however fast.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from chatkeep.db import AUTH
from chatkeep.errors import ChatkeepError, TokenInvalid, Unavailable
from chatkeep.going_on import go_on
from chatkeep.outages import Outage
from chatkeep.signing_keys.stored import in_use, load_signing_keys, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.db import Database
    from chatkeep.signing_keys.stored import PrivateKey, SigningKeys, StoredKey
    from chatkeep.tokens import Header, Key, KeySet

_log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0
#: Tokens with ids that nobody knows make us look no more often.
_PAUSE_S: Final = 0.2


class KeyRing:
    """What signs and verifies now. One per process; `start` and `close` it.

    *published* and *shared* are where the issuer finds its keys: those of the published set,
    and the imported secret.
    """

    def __init__(
        self,
        db: Database,
        secret: bytes,
        keys: SigningKeys,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with *keys*, which were just loaded."""
        self._db = db
        self._secret = secret
        self._clock = clock
        self._keys = keys
        self._rows: list[StoredKey] = []
        self._looked_at = float("-inf")
        self._saw = True
        self._one_at_a_time = asyncio.Lock()
        self._look = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self.published = _RingKeys(keys.verifying, self)
        self.shared = _RingKeys(keys.shared, self)

    @property
    def current(self) -> PrivateKey:
        """The key that signs."""
        return self._keys.current

    @property
    def verifying(self) -> KeySet:
        """The published keys."""
        return self._keys.verifying

    @property
    def jwks(self) -> bytes:
        """The published keys as a JWK Set; no private member is in it."""
        return self._keys.jwks

    def told(self, _payload: str = "") -> None:
        """Take note that keys changed, or may have: looks at once."""
        self._look.set()

    async def look(self) -> None:
        """Learn how the keys are now.

        Raises:
            Unavailable: the database is away; what is known stays in use.
            SetupError: a key was encrypted under another secret.
        """
        self._looked_at, self._saw = self._clock(), False
        (rows,) = await self._db.fetch_all(AUTH, in_use())
        if rows != self._rows and any(row.status == "current" for row in rows):
            self._keys, self._rows = opened(rows, self._secret), rows
            self.published.replace(self._keys.verifying)
            self.shared.replace(self._keys.shared)
        self._saw = True

    async def look_since(self, moment: float) -> None:
        """Return when somebody has looked who began after *moment*; raises as `look` does.

        Also where that one saw nothing: a key that nobody could look for is not one that is
        unknown, and whoever shows a token of it need not sign in again.
        """
        async with self._one_at_a_time:
            if self._looked_at > moment:
                if not self._saw:
                    raise Unavailable
                return
            await asyncio.sleep(max(0.0, self._looked_at + _PAUSE_S - self._clock()))
            await self.look()

    def start(self) -> None:
        """Begin to look, in a task that `close` ends."""
        self._looking = asyncio.create_task(go_on(self._run, "looking for keys that sign"))

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def now(self) -> float:
        """Return the moment for `look_since`."""
        return self._clock()

    async def _run(self) -> None:
        outage = Outage(_log, "see which keys sign")
        while True:
            self._look.clear()
            try:
                # Else an answer that comes late would bring back keys that are gone.
                async with self._one_at_a_time:
                    await self.look()
                outage.worked()
            except ChatkeepError as error:
                outage.failed(error.code)
            try:
                # Not `wait_for`: before Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._look.wait()
            except TimeoutError:
                continue


class _RingKeys:
    """The keys of one kind; whoever misses one makes the ring look first."""

    def __init__(self, keys: KeySet, ring: KeyRing) -> None:
        self._ring = ring
        self.replace(keys)

    def replace(self, keys: KeySet) -> None:
        """Use *keys* from now on; what was verified with the others is verified again."""
        self._keys = keys
        self._current = keys if len(keys) else None

    def current(self) -> KeySet | None:
        """Return the keys; None where there is none, as far as is known."""
        return self._current

    async def find(self, header: Header) -> tuple[KeySet, Key]:
        """Return the key for *header*, as the keys are now."""
        await self._ring.look_since(self._ring.now())
        key = self._keys.find(header)
        if key is None:
            raise TokenInvalid
        return self._keys, key

    async def close(self) -> None:
        """Hold nothing."""


async def open_ring(db: Database, secret: bytes) -> KeyRing:
    """Return the ring of *db*, with its first key made if there is none.

    Raises:
        SetupError: the database was used with another secret.
    """
    return KeyRing(db, secret, await load_signing_keys(db, secret))
