"""Forks: a branch of a conversation, up to some message, copied into a new conversation.

Both go on by themselves afterwards. Messages keep their words, parts and times and get new
ids; what an answer cost stays with the answer that was asked for, and files are kept for as
long as either conversation is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep import runs
from chatkeep.conversations import Conversation
from chatkeep.db import ConstraintViolated, as_user
from chatkeep.errors import NotYourConversation, RunInProgress
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from chatkeep.db import Database


async def fork(
    db: Database,
    user_id: str,
    conversation_id: str,
    *,
    message_id: str | None,
    fork_id: str | None = None,
) -> Conversation:
    """Copy the branch that ends at *message_id*, or at what is shown; return the copy.

    The same *fork_id* again returns the copy that the first one made.

    Raises:
        RunInProgress: there is no such finished message, and an answer is being made.
        NotYourConversation: there is no such message of this person.
    """
    fork_id = fork_id or new_id()
    try:
        made = await _copy(db, user_id, conversation_id, message_id, fork_id)
    except ConstraintViolated as violated:
        if violated.name == "file_uses_file":  # a file that it saw was erased meanwhile
            made = await _copy(db, user_id, conversation_id, message_id, fork_id)
        elif violated.name.startswith("conversations_"):
            made = await find_fork(db, user_id, fork_id)
        else:
            raise
    if made is not None:
        return made
    running = await runs.find_active(db, user_id, conversation_id)
    raise NotYourConversation if running is None else RunInProgress(run_id=running)


async def _copy(
    db: Database, user_id: str, conversation_id: str, message_id: str | None, fork_id: str
) -> Conversation | None:
    rows = await db.fetch(
        as_user(user_id),
        _COPY,
        {
            "user": user_id,
            "conversation": conversation_id,
            "message": message_id,
            "fork": fork_id,
        },
        row=Conversation,
    )
    return rows[0] if rows else None


async def find_fork(db: Database, user_id: str, fork_id: str) -> Conversation | None:
    """Find the copy that was made with the id *fork_id*."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select id, title, created_at, updated_at from chat.conversations
        where user_id = %s and id = %s and deleted_at is null
        """,
        [user_id, fork_id],
        row=Conversation,
    )
    return rows[0] if rows else None


_COPY = """
with recursive source as (
  select c.user_id, c.id, c.title, c.title_typed, m.id as head_id from chat.conversations c
  cross join lateral (
    select id, run_id from chat.messages where user_id = c.user_id and conversation_id = c.id
      and id = case when %(message)s::text is null then c.head_id else %(message)s end offset 0
  ) m
  left join lateral (
    select state from chat.runs where user_id = c.user_id and id = m.run_id offset 0
  ) r on true
  where c.user_id = %(user)s and c.id = %(conversation)s and c.deleted_at is null
    and coalesce(r.state, 'done') not in ('queued', 'running')
  -- Whoever erases it waits for the copy, to erase that as well.
  for share of c
), branch as (
  select m.* from source s cross join lateral (
    select * from chat.messages
    where user_id = s.user_id and conversation_id = s.id and id = s.head_id offset 0
  ) m
  union all
  select p.* from branch b
  -- `offset 0`: each is looked up by its whole key, however long the conversation is.
  cross join lateral (
    select * from chat.messages where user_id = b.user_id
      and conversation_id = %(conversation)s and id = b.parent_id offset 0
  ) p
), named as materialized (
  select b.*, gen_random_uuid()::text as new_id from branch b
), made as (
  insert into chat.conversations (user_id, id, title, title_typed, head_id)
  select %(user)s, %(fork)s, s.title, s.title_typed, n.new_id
  from source s join named n on n.id = s.head_id
  returning id, title, created_at, updated_at
), copied as (
  insert into chat.messages
    (user_id, conversation_id, id, parent_id, role, content, parts, created_at)
  select %(user)s, made.id, n.new_id, p.new_id, n.role, n.content, n.parts, n.created_at
  from made cross join named n left join named p on p.id = n.parent_id
), files as (
  insert into chat.file_uses (user_id, file_id, conversation_id)
  select s.user_id, f.id, made.id from made cross join source s
  join chat.chatkit_attachments f on f.user_id = s.user_id and f.conversation_id = s.id
  union
  select s.user_id, u.file_id, made.id from made cross join source s
  join chat.file_uses u on u.user_id = s.user_id and u.conversation_id = s.id
)
select id, title, created_at, updated_at from made
"""
