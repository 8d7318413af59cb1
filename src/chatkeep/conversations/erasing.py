"""What a message said is erased, wherever a conversation has it: the one statement for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from chatkeep.db import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.conversations.attached import Attached


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


def erasing(
    user_id: str,
    conversation_id: str,
    message_id: str,
    attached: Attached,
    *,
    content: str = "",
    parts: Sequence[dict[str, Any]] | None = None,
    part_id: str = "",
    idle: bool = False,
) -> Query[Any]:
    """Return the statement that leaves of a message *content* and *parts*: one row if it did.

    It takes away the copies of it that ChatKit may have, under the message's id or *part_id*, and
    a title that is *attached* to it. When *idle*, nothing happens while an answer is made or waits.
    """
    values = {
        "user": user_id,
        "conversation": conversation_id,
        "message": message_id,
        "content": content,
        "parts": None if parts is None else Jsonb(list(parts)),
        "part": part_id,
        "titles": attached.titles_sent,
        "idle": idle,
    }
    return Query(_ERASE, values, _Id)


_ERASE = """
with erased as (
  update chat.messages set content = %(content)s, parts = %(parts)s::jsonb
  where user_id = %(user)s and conversation_id = %(conversation)s
    and id = %(message)s and not (%(idle)s and exists (
      select from chat.runs r where r.user_id = %(user)s
        and r.conversation_id = %(conversation)s and r.state in ('queued', 'running')))
  returning id
), copy_of_message as (
  update chat.chatkit_items set item = '{}', hidden = true
  where user_id = %(user)s and conversation_id = %(conversation)s
    and id = %(message)s and exists (select from erased)
), copy_of_part as (
  -- Not both at once: looking for several, PostgreSQL before 17 may read all there are.
  update chat.chatkit_items set item = '{}', hidden = true
  where user_id = %(user)s and conversation_id = %(conversation)s
    and id = %(part)s and exists (select from erased)
), untitled as (
  update chat.conversations set title = null
  where user_id = %(user)s and id = %(conversation)s and not title_typed
    and (%(titles)s::text[] is null or title = any(%(titles)s::text[]))
    and exists (select from erased)
)
select id from erased
"""
