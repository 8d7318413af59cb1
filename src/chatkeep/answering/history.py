"""The history that a model is given: the branch of a conversation that ends with a question.

Of a conversation that is kept it comes from here, and only from the database. How a model is
told of it is in `prompts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from chatkeep.db import Query

if TYPE_CHECKING:
    from collections.abc import Mapping

_AT_MOST: Final = 200
#: More than any model takes. The message with which it is reached is the last that is read.
BYTES_AT_MOST: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message of the history that the model is given. *parts* as `parts` keeps them."""

    role: Literal["system", "user", "assistant"]
    content: str
    parts: list[dict[str, Any]] | None = None


def reading(values: Mapping[str, object]) -> Query[Said]:
    """Return the statement that reads the branch above *newest*, in *conversation* of *user*.

    What is charged in its transaction afterwards is charged for that branch.
    """
    wanted = {name: values[name] for name in ("user", "conversation", "newest")}
    return Query(_HISTORY, {**wanted, "at_most": _AT_MOST, "bytes": BYTES_AT_MOST}, Said)


# The newest messages of the branch that ends with `newest`, newest first. How long they are is
# left to the statement that charges for them, in this transaction. A file counts as 1,000 tokens
# at least: one of text as what is in it, which the model is given as words, and another one
# (images apart) as a tenth. Text parts are in the content already.
_HISTORY = """
with recursive branch as (
  select id, parent_id, role, content, parts, 1 as depth,
    octet_length(content) + coalesce(octet_length(parts::text), 0) as bytes
  from chat.messages
  where user_id = %(user)s and conversation_id = %(conversation)s and id = %(newest)s
  union all
  select p.*, b.depth + 1,
    b.bytes + octet_length(p.content) + coalesce(octet_length(p.parts::text), 0)
  from branch b
  -- `offset 0`: each is looked up by its whole key, however long the conversation is.
  cross join lateral (
    select id, parent_id, role, content, parts from chat.messages
    where user_id = %(user)s and conversation_id = %(conversation)s and id = b.parent_id
    offset 0
  ) p
  where b.depth < %(at_most)s and b.bytes < %(bytes)s
)
select role, content, parts from branch
where (content <> '' or parts is not null) and (
  select set_config('chatkeep.branch_bytes', coalesce(
    sum(octet_length(content) + 12 + case when parts is null then 0 else (
      select coalesce(sum(case p ->> 'type' when 'text' then 0
        when 'file' then greatest(3000, (
          select case when a.media_type like 'text/%%' then a.size
            when a.media_type not like 'image/%%' then a.size / 10 end
          from chat.chatkit_attachments a
          where a.user_id = %(user)s and a.id = substr(p ->> 'url', length('/api/files/') + 1)
        ))
        else octet_length(p::text) end), 0) from jsonb_array_elements(parts) p
    ) end), 0)::text, true) from branch
) <> ''
order by depth
"""
