"""News of answers between nodes: who wants to hear of which, and what is new in it.

What an answer says is kept in the database, and a reader on another node is always right
when it looks there. Here is what spares it most of the looks. A node that works on an answer
is told when somebody elsewhere reads it; from then on it tells of each checkpoint by
`NOTIFY`, or, where there is a Redis, puts each piece into a stream of the answer. A piece
says where in the answer it belongs, so one that comes twice is known, and one that is
missing is seen: then the reader looks into the database. Streams are short, expire, and are
sealed with a key that only our nodes have, so nobody who reaches the Redis reads or forges
an answer.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chatkeep.answering.parts import Cut
from chatkeep.going_on import go_on
from chatkeep.server_secrets import derived_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chatkeep.answering.parts import Graft, Part
    from chatkeep.redis_link import RedisLink

#: Whoever reads says so this often, and is believed for a little longer.
ASKS_EVERY_S: Final = 5.0
_ASKED_FOR_S: Final = 12.0
_SEND_EVERY_S: Final = 0.05
_ENTRIES_AT_MOST: Final = 400
_EXPIRES_MS: Final = 60_000
_READ_FOR_MS: Final = 250
_NONCE: Final = 12
#: Until the first news it is looked for soon, and seldom where somebody tells.
_SOON_S: Final = 0.25
_SELDOM_S: Final = 1.0
_TOLD_S: Final = 2.0
_ASK: Final = "?"
#: An answer's stream is named by what is no secret, and by nothing of whose it is.
_NAME: Final = "chatkeep:tail:"
_END: Final = b"end"


class Tail:
    """What one reader of an answer made elsewhere is waiting for."""

    def __init__(self) -> None:
        """Wait for the first news."""
        self._news = asyncio.Event()
        self._grafts: list[Graft] = []
        self._told = False
        self._pause_s = _SOON_S
        self._asks_at = 0.0
        #: Whether anything came by a stream since it was asked for.
        self.is_streamed = False
        self.was_asked = False

    def asks_again(self) -> bool:
        """Return whether it is time to say again that somebody reads; then that is said."""
        now = time.monotonic()
        if now < self._asks_at:
            return False
        self._asks_at = now + ASKS_EVERY_S
        return True

    def look(self) -> None:
        """There is something to be seen in the database."""
        self._told = True
        self._news.set()

    def graft(self, pieces: Sequence[Graft]) -> None:
        """These pieces have come."""
        self.is_streamed = True
        self._grafts += pieces
        self._news.set()

    async def wait(self) -> list[Graft]:
        """Return the pieces that have come, or none: then look into the database."""
        try:
            async with asyncio.timeout(self._pause_s):
                await self._news.wait()
        except TimeoutError:
            self._pause_s = min(self._pause_s * 2, _TOLD_S if self._told else _SELDOM_S)
            return []
        self._news.clear()
        self._pause_s = _TOLD_S
        grafts, self._grafts = self._grafts, []
        return grafts

    def missed(self) -> None:
        """There was something to be seen that nobody had told of, or a piece was missing."""
        self._pause_s = _SOON_S


class Tails:
    """Every tail of this process. Share one."""

    def __init__(
        self,
        redis: RedisLink | None = None,
        *,
        secret: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Tell through *redis*, where there is one, with a key derived from *secret*."""
        self._redis = redis
        self._clock = clock
        self._seal = _Seal(secret)
        self._readers: dict[str, set[Tail]] = {}
        self._seen: dict[str, bytes] = {}
        self._by_notice: dict[str, float] = {}
        self._by_stream: dict[str, float] = {}
        self._cuts: dict[str, Cut] = {}
        self._somebody = asyncio.Event()
        if redis is not None:
            redis.subscribe("chatkeep_tails", self._told_by_redis)

    # --- for readers -----------------------------------------------------------------------------

    @contextmanager
    def following(self, run_id: str) -> Iterator[Tail]:
        """Lend a tail of the answer that *run_id* makes on some other node."""
        tail = Tail()
        self._readers.setdefault(run_id, set()).add(tail)
        self._somebody.set()
        try:
            yield tail
        finally:
            readers = self._readers[run_id]
            readers.discard(tail)
            if not readers:
                del self._readers[run_id]
                self._seen.pop(run_id, None)

    def asks(self, run_id: str, tail: Tail) -> bool:
        """Say that somebody reads, when it is time; return whether `NOTIFY` must say it."""
        if not tail.asks_again():
            return False
        was_asked, was_streamed = tail.was_asked, tail.is_streamed
        tail.was_asked, tail.is_streamed = True, False
        if self._redis is None or not self._redis.usable:
            return True
        self._redis.tell("chatkeep_tails", _ASK + run_id)
        # The other node may not reach the Redis.
        return was_asked and not was_streamed

    def told(self, payload: str) -> None:
        """Take a notification: somebody reads, or there is something to be seen."""
        if payload.startswith(_ASK):
            self._note(self._by_notice, payload)
            return
        for tail in self._readers.get(payload, ()):
            tail.look()

    def missed(self) -> None:
        """Let everybody look: notifications may have been lost."""
        for readers in self._readers.values():
            for tail in readers:
                tail.look()

    async def keep_reading(self) -> None:
        """Hand what comes in the streams to who reads it, until cancelled."""
        await go_on(self._read_on, "reading what other nodes answer")

    async def _read_on(self) -> None:
        redis = self._redis
        if redis is None:
            return
        while True:
            while not self._readers:  # who came may have left before this task had its turn
                self._somebody.clear()
                await self._somebody.wait()
            names = {_NAME + one: self._seen.get(one, b"0") for one in self._readers}
            entries = await redis.read_streams(names, wait_ms=_READ_FOR_MS)
            if entries is None:
                await asyncio.sleep(_READ_FOR_MS / 1000)
                continue
            for name, found in entries.items():
                self._take(name.removeprefix(_NAME), found)

    # --- for who works on an answer --------------------------------------------------------------

    def tells(self, run_id: str) -> bool:
        """Whether each checkpoint of *run_id* is to be told by `NOTIFY`."""
        return self._is_asked(self._by_notice, run_id)

    async def keep_sending(self, parts_of: Callable[[str], Sequence[Part] | None]) -> None:
        """Put what is new into the streams, until cancelled.

        *parts_of* gives the parts of an answer that this node works on.
        """
        await go_on(partial(self._send_on, parts_of), "telling other nodes what is answered")

    async def _send_on(self, parts_of: Callable[[str], Sequence[Part] | None]) -> None:
        if self._redis is None:
            return
        while True:
            await asyncio.sleep(_SEND_EVERY_S)
            for run_id in list(self._by_stream):
                parts = parts_of(run_id)
                if parts is None or not self._is_asked(self._by_stream, run_id):
                    self._forget(run_id)
                else:
                    await self._send(run_id, parts)

    async def ended(self, run_id: str) -> None:
        """Tell that *run_id* has ended, which is in the database now."""
        for tail in self._readers.get(run_id, ()):
            tail.look()
        self._by_notice.pop(run_id, None)
        if run_id in self._by_stream:
            self._forget(run_id)
            await self._add(run_id, _END)

    def _told_by_redis(self, payload: str) -> None:
        if payload.startswith(_ASK):
            self._note(self._by_stream, payload)

    def _note(self, asked: dict[str, float], payload: str) -> None:
        """Note that somebody reads, and forget who has stopped: most answers are others' work."""
        now, run_id = self._clock(), payload.removeprefix(_ASK)
        asked.pop(run_id, None)  # so that whoever asked longest ago stands first
        asked[run_id] = now + _ASKED_FOR_S
        while asked[oldest := next(iter(asked))] < now:
            del asked[oldest]

    def _is_asked(self, asked: dict[str, float], run_id: str) -> bool:
        until = asked.get(run_id)
        if until is None:
            return False
        if until < self._clock():
            del asked[run_id]
            return False
        return True

    def _forget(self, run_id: str) -> None:
        self._by_stream.pop(run_id, None)
        self._cuts.pop(run_id, None)

    async def _send(self, run_id: str, parts: Sequence[Part]) -> None:
        cut = self._cuts.setdefault(run_id, Cut())
        grafts = cut.take(parts)
        if grafts and not await self._add(run_id, msgspec.json.encode(grafts)):
            # Nobody knows whether it arrived. Asked again, it begins with the whole answer.
            self._forget(run_id)

    async def _add(self, run_id: str, news: bytes) -> bool:
        redis, name = self._redis, _NAME + run_id
        if redis is None:
            return False
        sealed = self._seal.close(news, run_id)
        add = redis.ask("XADD", name, "MAXLEN", "~", _ENTRIES_AT_MOST, "*", "d", sealed)
        added, _ = await asyncio.gather(add, redis.ask("PEXPIRE", name, _EXPIRES_MS))
        return added is not None

    def _take(self, run_id: str, entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        grafts: list[Graft] = []
        over = False
        if run_id not in self._readers:
            return  # its last reader left while it was being asked for
        for entry_id, fields in entries:
            self._seen[run_id] = entry_id
            news = self._seal.open(fields.get(b"d", b""), run_id)
            if news == _END:
                over = True
            elif news is not None:
                grafts += msgspec.json.decode(news, type=list[tuple[int, int, dict[str, Any]]])
        for tail in self._readers.get(run_id, ()):
            if grafts:
                tail.graft(grafts)
            if over:
                tail.look()


class _Seal:
    """What only nodes with our secret open, and that belongs to one answer."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(derived_key(secret, "tails of answers"))

    def close(self, news: bytes, run_id: str) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, news, run_id.encode())

    def open(self, sealed: bytes, run_id: str) -> bytes | None:
        """Return what was sealed; None for what was not sealed by one of us for this answer."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], run_id.encode())
        except (InvalidTag, ValueError):
            return None
