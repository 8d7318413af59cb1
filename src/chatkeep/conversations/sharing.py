"""Links that show one branch of a conversation to whoever has them, until they end.

A link names a message; what it shows is the way from the first message to that one, as
plain text and the sources named in it. Neither what was said afterwards, nor other branches,
nor reasoning, files, or what tools were given and gave back can be read through it, and no
title is shown that was made of any of these. Its token is random, 128 bits, and kept as a hash
only.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from chatkeep import conversations
from chatkeep.db import AUTH, as_user
from chatkeep.errors import LinkEnded, NotYourConversation
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from chatkeep.conversations import Message, Role
    from chatkeep.db import Database

LISTED_AT_MOST = 200
#: So many messages of the branch are shown, the last ones.
SHOWN_AT_MOST = 500
#: And no more once they have so many bytes: strangers ask, and the page is made in memory.
SHOWN_BYTES = 4 << 20
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A link that was made. Its token is known only to whoever made it."""

    id: str
    conversation_id: str
    head_id: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message as strangers see it."""

    role: Role
    text: str
    sources: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a link shows. *cut*: there is more before the first message."""

    title: str | None
    messages: list[Said]
    expires_at: datetime
    cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a conversation is called. *title_typed*: by a person."""

    title: str | None
    title_typed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    user_id: str
    conversation_id: str
    head_id: str
    expires_at: datetime


async def share(
    db: Database,
    user_id: str,
    conversation_id: str,
    *,
    head_id: str | None,
    lasts: timedelta,
    share_id: str | None = None,
) -> tuple[Share, str]:
    """Make a link to the branch that ends at *head_id*, or at what is shown; return its token.

    One with the same *share_id* whose token nobody was told is opened by the new one.

    Raises:
        NotYourConversation: there is no such finished message of this person.
    """
    token = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    made = await db.fetch(
        as_user(user_id),
        """
        insert into chat.shares (user_id, id, conversation_id, head_id, token_hash, expires_at)
        select m.user_id, %(id)s, m.conversation_id, m.id, %(hash)s, now() + %(lasts)s
        from chat.conversations c
        -- `offset 0`: looked up by their whole keys, whatever else this person has.
        cross join lateral (
          select user_id, conversation_id, id, run_id from chat.messages
          where user_id = c.user_id and conversation_id = c.id
            and id = case when %(head)s::text is null then c.head_id else %(head)s end offset 0
        ) m
        left join lateral (
          select state from chat.runs where user_id = m.user_id and id = m.run_id offset 0
        ) r on true
        where c.user_id = %(user)s and c.id = %(conversation)s and c.deleted_at is null
          and coalesce(r.state, 'done') not in ('queued', 'running')
        on conflict (user_id, id) do update set token_hash = excluded.token_hash
        returning id, conversation_id, head_id, created_at, expires_at
        """,
        {
            "user": user_id,
            "id": share_id or new_id(),
            "conversation": conversation_id,
            "head": head_id,
            "hash": _hash(token),
            "lasts": lasts,
        },
        row=Share,
    )
    if not made:
        raise NotYourConversation
    return made[0], token


async def list_shares(db: Database, user_id: str) -> list[Share]:
    """List the links of a person that have not ended, newest first."""
    return await db.fetch(
        as_user(user_id),
        """
        select s.id, s.conversation_id, s.head_id, s.created_at, s.expires_at
        from chat.shares s
        join chat.conversations c on c.user_id = s.user_id and c.id = s.conversation_id
        where s.user_id = %s and s.expires_at > now() and c.deleted_at is null
        order by s.created_at desc, s.id desc limit %s
        """,
        [user_id, LISTED_AT_MOST],
        row=Share,
    )


async def revoke(db: Database, user_id: str, share_id: str) -> None:
    """End a link of a person at once; one that has ended, or never was, stays so."""
    await db.execute(
        as_user(user_id),
        "delete from chat.shares where user_id = %s and id = %s",
        [user_id, share_id],
    )


async def open_link(
    db: Database, token: str, *, people: str, titled: Callable[[str, str], str | None]
) -> Shown:
    """Return what the link with *token* shows.

    *titled* makes a title of a question and its answer, None where they name no subject.

    *people* is what the ids of our own issuer's people begin with: whose account there is
    deleted, or suspended now, shows nothing to anybody. Neither does a suspended person of
    another issuer.

    Raises:
        LinkEnded: it has, was revoked, or never was: nobody can tell which.
    """
    found = await db.fetch(
        AUTH,
        """
        select s.user_id, s.conversation_id, s.head_id, s.expires_at from chat.shares s
        cross join lateral (
          select case when s.user_id = %(people)s || right(s.user_id, 36)
            and right(s.user_id, 36) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            then right(s.user_id, 36)::uuid end as id
        ) account
        where s.token_hash = %(hash)s and s.expires_at > now() and (
          account.id is null or exists (
            select from chatkeep.users u where u.id = account.id and u.deleted_at is null
              and (u.banned_until is null or u.banned_until <= now())
          )
        ) and not exists (
          select from chatkeep.revocations r where r.kind = 'user' and r.issuer = ''
            and r.subject = s.user_id and r.not_before > now()
        )
        """,
        {"people": people, "hash": _hash(token)},
        row=_Opened,
    )
    if not found:
        raise LinkEnded
    try:
        return await _read(db, found[0], titled)
    except NotYourConversation:
        raise LinkEnded from None


async def _read(db: Database, link: _Opened, titled: Callable[[str, str], str | None]) -> Shown:
    messages: list[Message] = []
    upto: str | None = link.head_id
    size = 0
    while upto is not None and len(messages) < SHOWN_AT_MOST and size < SHOWN_BYTES:
        _, page = await conversations.get_page(
            db, link.user_id, link.conversation_id, limit=_PAGE, from_id=upto
        )
        messages = page + messages
        size += sum(_size(one) for one in page)
        upto = page[0].parent_id if page else None
    return Shown(
        title=_title(await get_name(db, link.user_id, link.conversation_id), messages, titled),
        messages=[said for one in messages if (said := _as_seen(one)) is not None],
        expires_at=link.expires_at,
        cut=upto is not None,
    )


async def get_name(db: Database, user_id: str, conversation_id: str) -> Named:
    """Return what a conversation is called, and whether a person said so.

    Raises:
        NotYourConversation: there is none of this person.
    """
    named = await db.fetch(
        as_user(user_id),
        """
        select title, title_typed from chat.conversations
        where user_id = %s and id = %s and deleted_at is null
        """,
        [user_id, conversation_id],
        row=Named,
    )
    if not named:
        raise NotYourConversation
    return named[0]


def _title(
    named: Named, messages: list[Message], titled: Callable[[str, str], str | None]
) -> str | None:
    """Return the title, if somebody typed it or it is of what the link shows; else one that is.

    A title that nobody typed is of the first exchange that names a subject. That may have been
    edited away since, erased, said after what is shown, or said where this was copied from.
    """
    if named.title_typed:
        return named.title
    for question, answer in pairwise([*messages, None]):
        if question is None or question.role != "user":
            continue
        title = titled(question.content, "" if answer is None else answer.content)
        if title is not None:
            return named.title if _is_the_only_one(question, answer) else title
    return None


def _is_the_only_one(question: Message, answer: Message | None) -> bool:
    """Say whether the exchange was had here, and there is and was none in its place."""
    if answer is None or answer.run_id is None:
        return False
    return all(len(one.siblings) == 1 and one.content for one in (question, answer))


def _as_seen(message: Message) -> Said | None:
    if message.role == "system":
        return None  # the operator's instructions are not the person's to show
    sources = [
        str(part["url"])
        for part in message.parts or ()
        if part.get("type") == "source-url" and str(part.get("url", "")).startswith("https://")
    ]
    return Said(role=message.role, text=message.content, sources=sources)


def _size(message: Message) -> int:
    return len(message.content.encode()) + len(msgspec.json.encode(message.parts))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
