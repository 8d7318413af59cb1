"""Words of messages, for the search in what one said and was told oneself.

An operator that is not leakproof, `@@` of the full text search, cannot use its index under
row-level security. So the words are in a table of their own, which only the role
`chatkeep_search` sees, and that role is nobody's: it owns the functions below, which look
at nobody's words but the caller's. Each row carries its owner as one of its words, so that
one index finds owner and words at once.

A message is indexed when it is finished, by a trigger: what an answer is streamed into has
no index on it, and a checkpoint costs what it did.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0016"
down_revision = "0015"

ROLE = """
do $$
begin
  if not exists (select from pg_roles where rolname = 'chatkeep_search') then
    begin
      create role chatkeep_search nologin noinherit;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  -- To hand it the functions, whoever migrates is a member of it meanwhile.
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant chatkeep_search to %I', current_user);
  end if;
end
$$;
grant usage, create on schema chat to chatkeep_search;
"""

TABLE = """
create table chat.message_words (
  user_id text not null,
  conversation_id text not null,
  message_id text not null,
  said_at timestamptz not null,
  words tsvector not null,
  primary key (user_id, conversation_id, message_id),
  constraint message_words_message foreign key (user_id, conversation_id, message_id)
    references chat.messages (user_id, conversation_id, id) on update cascade on delete cascade
);
"""

RIGHTS = """
create policy message_words_of_search on chat.message_words
  for all to chatkeep_search using (true) with check (true);
create policy messages_of_search on chat.messages
  for select to chatkeep_search using (true);
create policy conversations_of_search on chat.conversations
  for select to chatkeep_search using (true);
create policy profiles_of_search on chat.profiles
  for select to chatkeep_search using (true);
grant select, insert, update on chat.message_words to chatkeep_search;
grant select (user_id, conversation_id, id, content, created_at) on chat.messages
  to chatkeep_search;
grant select (user_id, id, deleted_at) on chat.conversations to chatkeep_search;
grant select (id, locale) on chat.profiles to chatkeep_search;
"""

WORDS = """
-- The configuration for a language tag of a profile. Nothing chosen counts as English.
create function chat.search_language(locale text) returns regconfig
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case split_part(lower(coalesce(locale, 'en')), '-', 1)
  when 'ar' then 'arabic' when 'ca' then 'catalan' when 'da' then 'danish'
  when 'de' then 'german' when 'el' then 'greek' when 'en' then 'english'
  when 'es' then 'spanish' when 'eu' then 'basque' when 'fi' then 'finnish'
  when 'fr' then 'french' when 'ga' then 'irish' when 'hi' then 'hindi'
  when 'hu' then 'hungarian' when 'hy' then 'armenian' when 'id' then 'indonesian'
  when 'it' then 'italian' when 'lt' then 'lithuanian' when 'nb' then 'norwegian'
  when 'ne' then 'nepali' when 'nl' then 'dutch' when 'nn' then 'norwegian'
  when 'no' then 'norwegian' when 'pt' then 'portuguese' when 'ro' then 'romanian'
  when 'ru' then 'russian' when 'sr' then 'serbian' when 'sv' then 'swedish'
  when 'ta' then 'tamil' when 'tr' then 'turkish' when 'yi' then 'yiddish'
  else 'simple' end::regconfig;

-- The lexeme that stands for an owner. Found or forged in a text it opens nothing: what is
-- found by it is compared with the caller again.
create function chat.search_owner(user_id text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return encode(sha256(convert_to(user_id, 'UTF8')), 'hex');

-- As they stand and as their language declines them; what is beyond the first pages is not
-- found, because nobody should wait for its words to be sorted into the index.
create function chat.words_of(user_id text, content text, locale text) returns tsvector
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return to_tsvector('simple', left(content, 50000))
  || case when chat.search_language(locale) = 'simple'::regconfig then ''::tsvector
       else to_tsvector(chat.search_language(locale), left(content, 50000)) end
  || array_to_tsvector(array[chat.search_owner(user_id)]);
"""

KEPT = """
set local role chatkeep_search;

-- Called by triggers alone, with the key of a message that its own statement has written.
create function chat.keep_words() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  wanted text := case tg_table_name when 'runs' then to_jsonb(new) ->> 'message_id' else new.id end;
begin
  insert into chat.message_words (user_id, conversation_id, message_id, said_at, words)
  select m.user_id, m.conversation_id, m.id, m.created_at,
    chat.words_of(m.user_id, m.content, (select locale from chat.profiles where id = m.user_id))
  from chat.messages m
  where m.user_id = new.user_id and m.conversation_id = new.conversation_id and m.id = wanted
    and m.content <> ''
  on conflict (user_id, conversation_id, message_id) do update
    set words = excluded.words where message_words.words <> excluded.words;
  return null;
exception when program_limit_exceeded then
  -- More different words than a vector holds: what was said is kept, and not found.
  return null;
end
$$;

-- At most *most* messages of the caller that match *asked*, newest first, older than *before*.
-- A common word is among the newest messages, so those are looked through first; a rare one
-- is found by the index. Without a caller, or any word to look for, there is nothing.
create function chat.search(asked tsquery, before timestamptz, before_id text, most integer)
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
      limit most
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
revoke all on function chat.search(tsquery, timestamptz, text, integer) from public;
grant execute on function chat.search(tsquery, timestamptz, text, integer) to chatkeep_app;

-- What was said before there was a search.
insert into chat.message_words (user_id, conversation_id, message_id, said_at, words)
select m.user_id, m.conversation_id, m.id, m.created_at,
  chat.words_of(m.user_id, m.content, p.locale)
from chat.messages m left join chat.profiles p on p.id = m.user_id
where m.content <> '' and m.user_id <> '';

reset role;
"""

INDEXED = """
-- Without a list of what is still to be put in: every search would read through it.
create index message_words_found on chat.message_words using gin (words)
  with (fastupdate = off);
create index message_words_newest
  on chat.message_words (user_id, said_at desc, message_id desc);

create trigger message_said after insert on chat.messages
  for each row when (new.run_id is null and new.content <> '')
  execute function chat.keep_words();
create trigger run_ended after update of state on chat.runs
  for each row when (new.state not in ('queued', 'running') and new.state <> old.state)
  execute function chat.keep_words();
"""

ALONE = """
set local role chatkeep_search;
revoke all on function chat.keep_words() from public;
reset role;
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
    """Make the role, the table and what fills it; servers of the version before fill it too."""
    for part in (ROLE, TABLE, closed("chat.message_words"), RIGHTS, WORDS, KEPT, INDEXED, ALONE):
        op.execute(part)


def downgrade() -> None:
    """Take the search away; what was said stays."""
    op.execute("drop trigger message_said on chat.messages")
    op.execute("drop trigger run_ended on chat.runs")
    op.execute("drop function chat.search, chat.keep_words")
    op.execute("drop table chat.message_words")
    op.execute("drop function chat.words_of, chat.search_owner, chat.search_language")
    op.execute("drop policy messages_of_search on chat.messages")
    op.execute("drop policy conversations_of_search on chat.conversations")
    op.execute("drop policy profiles_of_search on chat.profiles")
    op.execute(
        "revoke all on chat.messages, chat.conversations, chat.profiles from chatkeep_search"
    )
    op.execute("revoke all on schema chat from chatkeep_search")
