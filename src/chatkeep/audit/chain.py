"""The chain over the entries: each link is a keyed digest over its entry and the link before.

Whoever changes, drops or re-orders entries in the database cannot make the links fit,
because the key is kept encrypted under the server's secret. Both ends of the chain are
sealed with the key too, so that nothing goes missing at either. What a backup of the whole
database brings back fits in itself: `check` against a head that was kept elsewhere.

Linking is done afterwards, in batches, by one server at a time; no request waits for it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, LiteralString

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.rows import class_row

from chatkeep.db import ADMIN
from chatkeep.errors import SetupError
from chatkeep.server_secrets import derived_key

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from chatkeep.db import Database

_log = logging.getLogger(__name__)

BATCH: Final = 1000
_NO_LINK: Final = bytes(32)
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_NUMBER_BYTES: Final = 8
_PURPOSE: Final = "audit chain"
#: What the kept key is bound to.
CHAIN_BINDING: Final = _PURPOSE.encode()

#: An entry as it goes into its digest: every column, in one text. Never to be changed.
WRITTEN_OUT: LiteralString = (
    "json_build_array(l.number, extract(epoch from l.at)::text, l.action, l.outcome, l.reason,"
    " l.user_id, l.actor, l.issuer, l.session_id, l.request_id, l.address::text, l.device,"
    " l.details)::text"
)
_HEAD: LiteralString = (
    "select chain_key, position, mac, start_position, start_mac, seal, settled, sealed_at"
    " from chatkeep.audit_head"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Both ends of the chain, as they are kept. *position* 0: nothing is linked yet."""

    position: int = 0
    mac: bytes = b""
    start_position: int = 0
    start_mac: bytes = b""
    seal: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHead(Head):
    """The row of the head: with the key, still encrypted, and how far was looked."""

    chain_key: bytes | None = field(default=None, repr=False)
    settled: int = 0
    sealed_at: object = None


@dataclass(frozen=True, slots=True)
class _Unlinked:
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link, with its entry as text; None when that is gone."""

    position: int
    number: int
    mac: bytes = field(repr=False)
    text: str | None = field(repr=False)


class ChainKey:
    """The key of the chain: what makes links and seals."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Use *key*, 32 random bytes."""
        self._key = key

    def link(self, before: bytes, position: int, text: str) -> bytes:
        """Return the digest of the entry *text* that stands at *position* after *before*."""
        return self._digest(b"link", before or _NO_LINK, _number(position), text.encode())

    def seal(self, head: Head) -> bytes:
        """Return the digest over both ends of the chain."""
        return self._digest(
            b"head",
            *(_number(head.start_position), head.start_mac or _NO_LINK),
            *(_number(head.position), head.mac or _NO_LINK),
        )

    def fits(self, head: KeptHead) -> bool:
        """Whether *head* was sealed with this key; one that has no key yet must be empty."""
        if head.chain_key is None:
            return head.position == head.start_position == 0
        return hmac.compare_digest(self.seal(head), head.seal)

    def _digest(self, kind: bytes, *parts: bytes) -> bytes:
        # The kinds have one length, and so has each part but the last.
        return hmac.digest(self._key, kind + b"".join(parts), hashlib.sha256)


def new_chain_key() -> bytes:
    """Return a key that nobody knows."""
    return os.urandom(_KEY_BYTES)


def wrapped(key: bytes, secret: bytes) -> bytes:
    """Return the chain's *key* encrypted under the server's *secret*."""
    nonce = os.urandom(_NONCE_BYTES)
    encryption = AESGCM(derived_key(secret, _PURPOSE))
    return nonce + encryption.encrypt(nonce, key, CHAIN_BINDING)


def unwrapped(kept: bytes, secret: bytes) -> bytes:
    """Return the chain's key out of what `wrapped` made.

    Raises:
        SetupError: it was encrypted under another secret, or is not what was kept.
    """
    nonce, encrypted = kept[:_NONCE_BYTES], kept[_NONCE_BYTES:]
    try:
        return AESGCM(derived_key(secret, _PURPOSE)).decrypt(nonce, encrypted, CHAIN_BINDING)
    except (InvalidTag, ValueError) as error:
        raise SetupError(
            "The key of the audit log's chain was encrypted under another secret, or was"
            " replaced. Set CHATKEEP_SECRET to the one that was used before."
        ) from error


async def held_head(connection: AsyncConnection) -> KeptHead | None:
    """Return the head, locked to the end of the transaction; None when somebody has it."""
    cursor = connection.cursor(row_factory=class_row(KeptHead))
    await cursor.execute(_HEAD + " for update skip locked")
    return await cursor.fetchone()


async def shared_head(connection: AsyncConnection) -> KeptHead | None:
    """Return the head, so that nobody moves it before the transaction ends; None: there is none."""
    cursor = connection.cursor(row_factory=class_row(KeptHead))
    await cursor.execute(_HEAD + " for share")
    return await cursor.fetchone()


async def seal(db: Database, secret: bytes) -> int:
    """Link entries that are not yet, `BATCH` at most; return how many that were.

    0 while another server is at it. Those of a transaction that is still open are linked
    later: their numbers are smaller, their place in the chain is not.

    Raises:
        SetupError: the chain was made under another secret, or its head was tampered with.
        Unavailable: the database is away.
    """
    async with db.acting_as(ADMIN) as connection:
        head = await held_head(connection)
        if head is None:
            return 0
        entries = await _unlinked(connection, head)
        if entries:
            await _link(connection, head, entries, secret)
        if entries or head.position:
            await _settle(connection, up_to=entries[-1].number if len(entries) == BATCH else None)
        return len(entries)


async def _unlinked(connection: AsyncConnection, head: KeptHead) -> list[_Unlinked]:
    cursor = connection.cursor(row_factory=class_row(_Unlinked))
    await cursor.execute(
        "select l.number, "  # noqa: S608 -- of literals of this file
        + WRITTEN_OUT
        + " as text from chatkeep.audit_log l where l.number > %s and not exists"
        " (select from chatkeep.audit_links k where k.number = l.number)"
        " order by l.number limit %s",
        (head.settled, BATCH),
    )
    return await cursor.fetchall()


async def _link(
    connection: AsyncConnection, head: KeptHead, entries: list[_Unlinked], secret: bytes
) -> None:
    if head.chain_key is None:
        # Once in the life of a database; again only after somebody emptied the log.
        _log.warning(
            "a new chain of the audit log begins, as it does once in each database: later it"
            " means that somebody emptied the log"
        )
    kept_key = head.chain_key or wrapped(new_chain_key(), secret)
    key = ChainKey(unwrapped(kept_key, secret))
    if not key.fits(head):
        raise SetupError("The head of the audit log was tampered with: `chatkeep audit verify`.")
    mac, macs = head.mac, []
    for position, one in enumerate(entries, head.position + 1):
        mac = key.link(mac, position, one.text)
        macs.append(mac)
    end = head.position + len(entries)
    await connection.execute(
        "insert into chatkeep.audit_links (position, number, mac)"
        " select * from unnest(%s::bigint[], %s::bigint[], %s::bytea[])",
        (list(range(head.position + 1, end + 1)), [one.number for one in entries], macs),
    )
    await move(connection, key, replace(head, position=end, mac=mac, chain_key=kept_key))


async def move(connection: AsyncConnection, key: ChainKey, head: KeptHead) -> None:
    """Write *head*, sealed with *key*, in the caller's transaction, which holds it."""
    await connection.execute(
        "update chatkeep.audit_head set chain_key = %s, position = %s, mac = %s,"
        " start_position = %s, start_mac = %s, seal = %s, sealed_at = clock_timestamp()",
        (
            *(head.chain_key, head.position, head.mac, head.start_position, head.start_mac),
            key.seal(head),
        ),
    )


async def keep_key(connection: AsyncConnection, head: KeptHead) -> None:
    """Write the key of *head*, encrypted anew, in the caller's transaction, which holds it."""
    await connection.execute("update chatkeep.audit_head set chain_key = %s", (head.chain_key,))


async def _settle(connection: AsyncConnection, *, up_to: int | None) -> None:
    """Note below which number nobody needs to look again: no transaction is open so long."""
    await connection.execute(
        "update chatkeep.audit_head h set settled = s.number from ("
        " select max(l.number) as number from chatkeep.audit_log l"
        " where l.at < now() - interval '10 minutes' and l.number <= coalesce(%s, l.number)"
        " and l.number > (select settled from chatkeep.audit_head)) s where s.number > h.settled",
        (up_to,),
    )


async def page_after(connection: AsyncConnection, position: int, *, limit: int) -> list[Link]:
    """Return the next links of the chain with their entries, *limit* at most."""
    cursor = connection.cursor(row_factory=class_row(Link))
    await cursor.execute(
        "select k.position, k.number, k.mac, case when l.number is not null then "  # noqa: S608 -- as above
        + WRITTEN_OUT
        + " end as text from chatkeep.audit_links k"
        " left join chatkeep.audit_log l on l.number = k.number"
        " where k.position > %s order by k.position limit %s",
        (position, limit),
    )
    return await cursor.fetchall()


def _number(value: int) -> bytes:
    return value.to_bytes(_NUMBER_BYTES, signed=True)
