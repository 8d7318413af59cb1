"""Conversations that come from elsewhere: the exports of ChatGPT and of Open WebUI.

Both are JSON: a list of conversations, each a tree of messages. Trees, roles, words and times
are kept; what is no text of a person, an assistant or a system prompt is left out, and what
hangs below it moves up. A conversation that came before is known again and left as it is, and
comes back where it was deleted since. A file is another's word: every size is bounded, and
nothing in it names a row of ours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec

from chatkeep.db import as_user
from chatkeep.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chatkeep.db import Database

CONVERSATIONS_AT_MOST = 20_000
MESSAGES_AT_MOST = 20_000
TEXT_AT_MOST = 200_000
_TITLE_AT_MOST = 200
_ROLES = {"user", "assistant", "system"}
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A message: its number and its parent's, in the order that parents come first."""

    number: int
    parent: int | None
    role: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A conversation as it came. *head* is the number of the message that is shown last."""

    source: str
    id: str
    title: str | None
    at: datetime
    lines: list[Line]
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    id: str
    parent: str | None
    role: str | None
    text: str
    at: object


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


def read(content: bytes) -> list[Arrival]:
    """Return the conversations of an export, those without any text left out.

    Raises:
        Invalid: it is none, or something of it is too much; it says what.
    """
    try:
        told = msgspec.json.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise _refusal("is no JSON that can be read") from error
    if isinstance(told, dict):
        told = [told]
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise _refusal("is no list of conversations")
    if len(told) > CONVERSATIONS_AT_MOST:
        raise _refusal(f"has more than {CONVERSATIONS_AT_MOST} conversations: split it")
    read_ones = [_arrival(one) for one in told]
    return [one for one in read_ones if one.lines]


async def store(db: Database, user_id: str, arrival: Arrival) -> bool:
    """Keep *arrival* for *user_id*, whole or not at all; False when it was here already.

    One that was deleted within the last day is restored.
    """
    scope = f"{user_id}\x00{arrival.source}\x00{arrival.id}"
    ids = {line.number: _id_for(f"{scope}\x00{line.number}") for line in arrival.lines}
    kept = await db.fetch(
        as_user(user_id),
        """
        with restored as (
          update chat.conversations set deleted_at = null
          where user_id = %(user)s and id = %(conversation)s
            and deleted_at >= now() - interval '24 hours'
          returning id
        ), made as (
          insert into chat.conversations (user_id, id, title, head_id, created_at, updated_at)
          values (%(user)s, %(conversation)s, %(title)s, %(head)s, %(at)s, %(newest)s)
          on conflict do nothing
          returning id
        ), said as (
          insert into chat.messages
            (user_id, conversation_id, id, parent_id, role, content, created_at)
          select %(user)s, made.id, m.id, m.parent_id, m.role, m.content, m.created_at
          from made cross join unnest(%(ids)s::text[], %(parents)s::text[], %(roles)s::text[],
            %(texts)s::text[], %(times)s::timestamptz[])
            as m (id, parent_id, role, content, created_at)
        )
        select id from made union all select id from restored
        """,
        {
            "user": user_id,
            "conversation": _id_for(scope),
            "title": arrival.title,
            "head": ids[arrival.head],
            "at": arrival.at,
            "newest": max(line.at for line in arrival.lines),
            "ids": list(ids.values()),
            "parents": [None if one.parent is None else ids[one.parent] for one in arrival.lines],
            "roles": [one.role for one in arrival.lines],
            "texts": [one.text for one in arrival.lines],
            "times": [one.at for one in arrival.lines],
        },
        row=_Id,
    )
    return bool(kept)


def _arrival(told: dict[str, Any]) -> Arrival:
    if isinstance(mapping := told.get("mapping"), dict):
        source, named, shown = "chatgpt", told.get("conversation_id"), told.get("current_node")
        nodes = [_of_chatgpt(key, one) for key, one in mapping.items()]
        began = told.get("create_time")
    elif isinstance(messages := _inside(told, "chat", "history", "messages"), dict):
        source, named = "open-webui", None
        shown = _inside(told, "chat", "history", "currentId")
        nodes = [_of_open_webui(key, one) for key, one in messages.items()]
        began = told.get("created_at")
    else:
        raise _refusal("is neither an export of ChatGPT nor of Open WebUI")
    named = named or told.get("id")
    if not isinstance(named, str) or not 1 <= len(named) <= _TITLE_AT_MOST:
        raise _refusal("has a conversation without an id")
    at = _time(began, datetime.now(UTC))
    lines, numbers = _in_order(nodes, at)
    head = numbers.get(shown) if isinstance(shown, str) else None
    return Arrival(
        source=source,
        id=named,
        title=_title(told.get("title")),
        at=at,
        lines=lines,
        head=head if head is not None else len(lines) - 1,
    )


def _of_chatgpt(key: str, told: object) -> _Node:
    message = _inside(told, "message")
    role = _inside(message, "author", "role")
    hidden = _inside(message, "metadata", "is_visually_hidden_from_conversation") is True
    parts = _inside(message, "content", "parts")
    texts = [one for one in parts if isinstance(one, str)] if isinstance(parts, list) else []
    return _Node(
        id=key,
        parent=_name(_inside(told, "parent")),
        role=None if hidden else _name(role),
        text=_text("\n\n".join(texts)),
        at=_inside(message, "create_time"),
    )


def _of_open_webui(key: str, told: object) -> _Node:
    content = _inside(told, "content")
    return _Node(
        id=key,
        parent=_name(_inside(told, "parentId")),
        role=_name(_inside(told, "role")),
        text=_text(content if isinstance(content, str) else ""),
        at=_inside(told, "timestamp"),
    )


def _in_order(nodes: list[_Node], began: datetime) -> tuple[list[Line], dict[str, int | None]]:
    """Number what is kept, parents first; every node has the number of what stands for it."""
    if len(nodes) > MESSAGES_AT_MOST:
        raise _refusal(f"has a conversation of more than {MESSAGES_AT_MOST} messages")
    known = {node.id for node in nodes}
    below: dict[str | None, list[_Node]] = {}
    for node in nodes:
        below.setdefault(node.parent if node.parent in known else None, []).append(node)
    lines: list[Line] = []
    numbers: dict[str, int | None] = {}
    for node in _from_the_roots(below):
        parent = numbers.get(node.parent) if node.parent in known and node.parent else None
        if node.role not in _ROLES or not node.text.strip():
            numbers[node.id] = parent
            continue
        numbers[node.id] = len(lines)
        at = _time(node.at, lines[parent].at if parent is not None else began)
        lines.append(
            Line(number=len(lines), parent=parent, role=str(node.role), text=node.text, at=at)
        )
    if len(numbers) < len(nodes):
        raise _refusal("has messages that are their own ancestors")
    return lines, numbers


def _from_the_roots(below: Mapping[str | None, list[_Node]]) -> Iterator[_Node]:
    waiting = list(reversed(below.get(None, [])))
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(below.get(node.id, [])))


def _inside(told: object, *names: str) -> object:
    """Return what is at a path of members, None where there is none."""
    for name in names:
        if not isinstance(told, dict):
            return None
        told = cast("dict[str, object]", told).get(name)
    return told


def _name(told: object) -> str | None:
    return told if isinstance(told, str) else None


def _text(told: str) -> str:
    if len(told) > TEXT_AT_MOST:
        raise _refusal(f"has a message of more than {TEXT_AT_MOST} characters")
    if "\x00" in told:
        raise _refusal("has the character NUL, which cannot be stored")
    return told


def _title(told: object) -> str | None:
    if not isinstance(told, str):
        return None
    shown = "".join(one if one.isprintable() else " " for one in told[:_TITLE_AT_MOST])
    return " ".join(shown.split()) or None


def _time(told: object, otherwise: datetime) -> datetime:
    """Return seconds since 1970 as a time; *otherwise* where they are none of this age."""
    if not isinstance(told, int | float) or isinstance(told, bool):
        return otherwise
    try:
        at = datetime.fromtimestamp(told, UTC)
    except (ValueError, OverflowError, OSError):
        return otherwise
    return at if _EARLIEST < at < datetime.now(UTC) + timedelta(days=1) else otherwise


def _id_for(said: str) -> str:
    digest = hashlib.sha256(b"import\x00" + said.encode("utf-8", "surrogatepass")).digest()
    return str(UUID(bytes=digest[:16]))


def _refusal(why: str) -> Invalid:
    return Invalid(f"The file {why}. Nothing was imported.")
