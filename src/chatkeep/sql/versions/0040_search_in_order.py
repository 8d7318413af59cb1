"""The search asks for the order in which it goes on.

Its newest finds came in the order in which they were looked through, unless PostgreSQL joined
them with the conversations in another one: then others were the first, and the next page began
behind the wrong one.
"""

from __future__ import annotations

from typing import LiteralString

from alembic import op

revision = "0040"
down_revision = "0039"

# What is made anew stays its owner's, whom whoever migrates is a member of meanwhile.
MEANWHILE = """
do $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant chatkeep_search to %I', current_user);
  end if;
end
$$;
grant create on schema chat to chatkeep_search;
"""

SEARCH = """
set local role chatkeep_search;

create or replace function chat.search(
  asked tsquery, before timestamptz, before_id text, most integer
)
returns table (conversation_id text, message_id text, said_at timestamptz, rank double precision)
language plpgsql stable rows 20
security definer set search_path = pg_catalog, pg_temp as $$
declare
  me constant text := chat.caller_id();
  -- What of the newest is looked at always, and when the word is among those.
  probe constant integer := 200;
  reach constant integer := 10000;
  mine tsquery;
  found_so_far integer := 0;
begin
  if me is null or me = '' or numnode(asked) = 0 then
    return;
  end if;
  mine := chat.search_owner(me)::tsquery && asked;
  if exists (
    select from (
      select w.words from chat.message_words w
      where w.user_id = me and (w.said_at, w.message_id) < (before, before_id)
      order by w.said_at desc, w.message_id desc limit probe
    ) newest where newest.words @@ asked
  ) then
    for conversation_id, message_id, said_at, rank in
      select newest.conversation_id, newest.message_id, newest.said_at,
        ts_rank(newest.words, asked, 1)
      from (
        select w.* from chat.message_words w
        where w.user_id = me and (w.said_at, w.message_id) < (before, before_id)
        order by w.said_at desc, w.message_id desc limit reach
      ) newest
      where newest.words @@ asked and exists (
        select from chat.conversations c
        where c.user_id = me and c.id = newest.conversation_id and c.deleted_at is null
      )
"""
ORDER = "      order by newest.said_at desc, newest.message_id desc\n"
AND_SO_ON = """      limit most
    loop
      found_so_far := found_so_far + 1;
      before := said_at;
      before_id := message_id;
      return next;
    end loop;
  end if;
  if found_so_far >= most then
    return;
  end if;
  return query
  with matching as materialized (
    select w.user_id, w.conversation_id, w.message_id, w.said_at
    from chat.message_words w where w.words @@ mine
  ), newest as materialized (
    select m.conversation_id, m.message_id, m.said_at from matching m
    where m.user_id = me and (m.said_at, m.message_id) < (before, before_id)
      and exists (
        select from chat.conversations c
        where c.user_id = me and c.id = m.conversation_id and c.deleted_at is null
      )
    order by m.said_at desc, m.message_id desc limit most - found_so_far
  )
  select n.conversation_id, n.message_id, n.said_at,
    ts_rank(w.words, asked, 1)::double precision
  from newest n
  join chat.message_words w on w.user_id = me and w.conversation_id = n.conversation_id
    and w.message_id = n.message_id
  order by n.said_at desc, n.message_id desc;
end
$$;

reset role;
"""
ALONE = """
revoke create on schema chat from chatkeep_search;
do $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('revoke chatkeep_search from %I', current_user);
  end if;
end
$$;
"""


def upgrade() -> None:
    """Let the newest come in their order, however they are looked through."""
    _make(ORDER)


def downgrade() -> None:
    """Leave that to the plan."""
    _make("")


def _make(order: LiteralString) -> None:
    op.execute(MEANWHILE)
    op.execute(SEARCH + order + AND_SO_ON)
    op.execute(ALONE)
