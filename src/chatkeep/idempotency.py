"""Idempotency keys: the same request, sent again, is not done again.

A key belongs to one person, whatever it is used for, and is forgotten after a day. Whoever
brings it first does the work; whoever brings it meanwhile waits, and is given the same
answer afterwards; with another request it is refused. Answers are kept sealed, because some
hold what is shown only once. Nothing here knows HTTP.

The rules are those of the IETF's draft of the `Idempotency-Key` header (section 2).
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chatkeep.batches import in_turns
from chatkeep.db import WORKER, Query, as_user
from chatkeep.errors import AnswerNotKept, IdempotencyKeyReused, RequestInProgress
from chatkeep.ids import new_id
from chatkeep.server_secrets import derived_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.db import Database

#: So long a key stays taken when whoever took it has died.
LEASE_S: Final = 60.0
#: How often whoever works on a long answer says that it is alive.
RENEWAL_S: Final = 15.0
#: Larger answers are not kept: their key says only that the request was done.
KEPT_AT_MOST: Final = 8 << 20
_WAIT_S: Final = 60.0
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5
_NONCE_BYTES: Final = 12


class Kept(msgspec.Struct, kw_only=True, frozen=True):
    """An answer, as it was given the first time."""

    status: int
    body: bytes
    media_type: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)


#: That the request was done, and nothing of its answer.
DONE: Final = Kept(status=0, body=b"", media_type="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A key of a request that begins a run. *id* names this use of the key; *seen*: not new."""

    id: str
    seen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    holder: str
    fingerprint: bytes
    answer: bytes | None
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    key: str


class IdempotencyKeys:
    """The keys of all people. Share one per process."""

    def __init__(
        self,
        db: Database,
        secret: bytes,
        *,
        wait_s: float = _WAIT_S,
        lease_s: float = LEASE_S,
        new_name: Callable[[], str] = new_id,
        nonce: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Keep them in *db*; *secret* is the server's, and seals the answers.

        *new_name* names who brings a key, and *nonce* is what each answer is sealed with: never
        the same twice, but in a test.
        """
        self._new_name = new_name
        self._nonce = nonce
        self._db = db
        self._cipher = AESGCM(derived_key(secret, "idempotent answers"))
        self._naming = derived_key(secret, "ids of idempotent requests")
        self._wait_s = wait_s
        self._lease_s = lease_s

    async def take(self, user_id: str, key: str, fingerprint: bytes) -> Held | Kept:
        """Return the right to answer, or the answer that was given.

        Raises:
            IdempotencyKeyReused: the key came with another request.
            RequestInProgress: the same request is still being answered.
            AnswerNotKept: it was answered, with more than is kept, or what is shown only once.
        """
        holder, began, pause = self._new_name(), time.monotonic(), _FIRST_PAUSE_S
        while True:
            row = await self._claim(user_id, key, fingerprint, holder)
            if row.fingerprint != fingerprint:
                raise IdempotencyKeyReused
            if row.answer is not None:
                return self._opened(user_id, key, row.answer)
            if row.holder == holder:
                return Held(self, user_id, key, holder, row.since)
            if time.monotonic() - began > self._wait_s:
                raise RequestInProgress
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def mark(self, user_id: str, key: str, fingerprint: bytes) -> Marked:
        """Note that a request which begins a run came with *key*; the run answers it.

        Raises:
            IdempotencyKeyReused: the key came with another request.
        """
        fresh = self._new_name()
        values = {"user": user_id, "key": key, "fingerprint": fingerprint, "holder": fresh}
        _, rows = await self._db.fetch_all(
            as_user(user_id), Query(_MARK, values, _Key), Query(_HOLDER, values, _Row)
        )
        if not rows or rows[0].fingerprint != fingerprint:
            raise IdempotencyKeyReused
        return Marked(id=rows[0].holder, seen=rows[0].holder != fresh)

    async def renew(self, user_id: str, key: str, holder: str) -> None:
        """Say that whoever holds the key is alive."""
        await self._db.execute(
            as_user(user_id),
            """
            update chat.idempotency_keys
            set busy_until = now() + make_interval(secs => %s::float8)
            where user_id = %s and key = %s and holder = %s and answer is null
            """,
            [self._lease_s, user_id, key, holder],
        )

    async def keep(self, user_id: str, key: str, holder: str, kept: Kept) -> None:
        """Keep the answer for whoever comes with the key again."""
        if len(kept.body) > KEPT_AT_MOST:
            kept = DONE
        nonce = self._nonce(_NONCE_BYTES)
        content = msgspec.msgpack.encode(kept)
        sealed = nonce + self._cipher.encrypt(nonce, content, _bound_to(user_id, key))
        await self._db.execute(
            as_user(user_id),
            """
            update chat.idempotency_keys set answer = %s, busy_until = null
            where user_id = %s and key = %s and holder = %s
            """,
            [sealed, user_id, key, holder],
        )

    async def release(self, user_id: str, key: str, holder: str) -> None:
        """Let the key be used again: nothing came of the request."""
        await self._db.execute(
            as_user(user_id),
            """
            delete from chat.idempotency_keys
            where user_id = %s and key = %s and holder = %s and answer is null
            """,
            [user_id, key, holder],
        )

    async def leave(self, user_id: str, key: str, holder: str) -> None:
        """Let the same request be tried again: nobody knows whether anything came of it."""
        await self._db.execute(
            as_user(user_id),
            """
            update chat.idempotency_keys set busy_until = '-infinity'
            where user_id = %s and key = %s and holder = %s and answer is null
            """,
            [user_id, key, holder],
        )

    def stable_id(self, user_id: str, key: str, since: int) -> str:
        """Return the id of what *user_id* makes with *key*, which nobody else can work out."""
        said = b"%s\x00%d" % (_bound_to(user_id, key), since)
        return str(UUID(bytes=hmac.digest(self._naming, said, "sha256")[:16]))

    async def _claim(self, user_id: str, key: str, fingerprint: bytes, holder: str) -> _Row:
        """Take the key where it is free; return who has it now."""
        values = {
            "user": user_id,
            "key": key,
            "fingerprint": fingerprint,
            "holder": holder,
            "lease": self._lease_s,
        }
        _, rows = await self._db.fetch_all(
            as_user(user_id), Query(_CLAIM, values, _Key), Query(_HOLDER, values, _Row)
        )
        # Gone between the two: whoever had it let it go, so the next round takes it.
        gone = _Row(holder="", fingerprint=fingerprint, answer=None, since=0)
        return rows[0] if rows else gone

    def _opened(self, user_id: str, key: str, sealed: bytes) -> Kept:
        try:
            content = self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(user_id, key)
            )
        except InvalidTag:
            raise AnswerNotKept from None  # the server's secret has changed since
        kept = msgspec.msgpack.decode(content, type=Kept)
        if not kept.status:
            raise AnswerNotKept
        return kept


@dataclass(slots=True)
class Held:
    """The right to answer one request. End it with `keep`, `release` or `leave`, once.

    *id* is the same whenever this request is begun anew: what is made under it is made once,
    also when the answer to the first try was lost.
    """

    _keys: IdempotencyKeys
    _user_id: str
    _key: str
    _holder: str
    _since: int
    _renewed: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        """An id for what the request makes, nobody else's and the same each time."""
        return self._keys.stable_id(self._user_id, self._key, self._since)

    async def renew(self) -> None:
        """Say that it is still being worked on; costs nothing when that was said lately."""
        if time.monotonic() - self._renewed > RENEWAL_S:
            self._renewed = time.monotonic()
            await self._keys.renew(self._user_id, self._key, self._holder)

    async def keep(self, kept: Kept) -> None:
        """Keep the answer."""
        await self._keys.keep(self._user_id, self._key, self._holder, kept)

    async def release(self) -> None:
        """Give the right back: nothing came of it."""
        await self._keys.release(self._user_id, self._key, self._holder)

    async def leave(self) -> None:
        """Let the same request be tried again: nobody knows whether anything came of it."""
        await self._keys.leave(self._user_id, self._key, self._holder)


async def forget_old(db: Database) -> int:
    """Forget keys that are a day old; return how many."""
    return await in_turns(lambda at_most: db.execute(WORKER, _FORGET, [at_most]))


def _bound_to(user_id: str, key: str) -> bytes:
    return f"{user_id}\x00{key}".encode("utf-8", "surrogatepass")


# The worker sees of a key when it was made, and nothing else.
_FORGET = """
delete from chat.idempotency_keys where created_at <= (
  select max(oldest.created_at) from (
    select created_at from chat.idempotency_keys
    where created_at < now() - interval '24 hours'
    order by created_at limit %s) oldest)
"""

# A key that is a day old is a new one.
_MARK = """
insert into chat.idempotency_keys as k (user_id, key, fingerprint, holder)
values (%(user)s, %(key)s, %(fingerprint)s, %(holder)s)
on conflict (user_id, key) do update
  set fingerprint = excluded.fingerprint, holder = excluded.holder,
    answer = null, busy_until = null, created_at = now()
  where k.created_at < now() - interval '24 hours'
returning key
"""

# Free are also one that is a day old, and, for the same request, one whose holder has died.
_CLAIM = """
insert into chat.idempotency_keys as k (user_id, key, fingerprint, holder, busy_until)
values (%(user)s, %(key)s, %(fingerprint)s, %(holder)s,
  now() + make_interval(secs => %(lease)s::float8))
on conflict (user_id, key) do update
  set fingerprint = excluded.fingerprint, holder = excluded.holder,
    answer = null, busy_until = excluded.busy_until,
    created_at = case when k.created_at < now() - interval '24 hours'
      then now() else k.created_at end
  where k.created_at < now() - interval '24 hours'
    or (k.answer is null and k.busy_until < now() and k.fingerprint = excluded.fingerprint)
returning key
"""

_HOLDER = """
select coalesce(holder, '') as holder, fingerprint, answer,
  (extract(epoch from created_at) * 1000000)::bigint as since
from chat.idempotency_keys where user_id = %(user)s and key = %(key)s
"""
