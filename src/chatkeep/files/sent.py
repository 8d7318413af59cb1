"""In which conversations a file was sent: it is there for as long as one of them is.

These are statements, for the transaction of whatever is done with the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chatkeep.db import Query
from chatkeep.files.names import ADDRESS

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Erased:
    object_key: str | None


def using(user_id: str, conversation_id: str, file_ids: Sequence[str]) -> list[Query[Any]]:
    """Return the statements that say in which conversation files were sent, one for each.

    A file that was sent in another one before is kept for as long as either is there.
    """
    # In one order, whoever does it: two that lock the same files must not wait for each other.
    return [
        Query(_USING, {"user": user_id, "conversation": conversation_id, "file": one}, _Id)
        for one in sorted(set(file_ids))
    ]


def leaving(user_id: str, conversation_id: str, file_ids: Sequence[str]) -> list[Query[Any]]:
    """Return the statements that take files away which no message of a conversation names.

    They are erased, but for those that are in another one. What the statements answer goes to
    `objects_left`.
    """
    scope = {"user": user_id, "conversation": conversation_id}
    wanted = sorted(set(file_ids))
    queries: list[Query[Any]] = []
    if wanted:
        queries.append(Query(_UNNAMED, {**scope, "files": wanted, "address": ADDRESS}, _Id))
    # One by one: looking for several, PostgreSQL may read all that the person has.
    for one in wanted:
        values = {**scope, "file": one}
        queries += [Query(_LEAVING, values, _Id), Query(_GOING, values, _Erased)]
    return queries


def objects_left(answers: Sequence[Sequence[Any]]) -> list[str]:
    """Return where the bytes were, if elsewhere, of what the statements of `leaving` erased."""
    erased = (row for rows in answers for row in rows if isinstance(row, _Erased))
    return [row.object_key for row in erased if row.object_key is not None]


_USING = """
with sent as (
  update chat.chatkit_attachments set conversation_id = %(conversation)s
  where user_id = %(user)s and id = %(file)s
    and coalesce(conversation_id, %(conversation)s) = %(conversation)s
  returning id
)
insert into chat.file_uses (user_id, file_id, conversation_id)
select user_id, id, %(conversation)s from chat.chatkit_attachments
where user_id = %(user)s and id = %(file)s and not exists (select from sent)
on conflict do nothing
returning file_id as id
"""

# Of what was not erased after all the message still names its files, so they stay.
_UNNAMED = """
select set_config('chatkeep.unnamed_files', coalesce((
  select array_agg(wanted.id)::text from unnest(%(files)s::text[]) as wanted (id)
  where %(address)s || wanted.id <> all(array(
    select named.url #>> '{}' from chat.messages m
    cross join lateral jsonb_path_query(m.parts, '$[*] ? (@.type == "file").url') as named (url)
    where m.user_id = %(user)s and m.conversation_id = %(conversation)s
  ))
), '{}'), true) as id
"""

# `coalesce`: by no index of what a conversation has, or of what is in none.
_LEAVING = """
with copied as (
  delete from chat.file_uses
  where user_id = %(user)s and file_id = %(file)s
    and coalesce(conversation_id, '') = %(conversation)s
    and %(file)s = any(current_setting('chatkeep.unnamed_files')::text[])
)
update chat.chatkit_attachments set conversation_id = null
where user_id = %(user)s and id = %(file)s
  and coalesce(conversation_id, '') = %(conversation)s
  and %(file)s = any(current_setting('chatkeep.unnamed_files')::text[])
returning id
"""

_GOING = """
delete from chat.chatkit_attachments a
where a.user_id = %(user)s and a.id = %(file)s and coalesce(a.conversation_id, '') = ''
  and not exists (
    select from chat.file_uses u where u.user_id = %(user)s and u.file_id = %(file)s)
returning a.object_key
"""
