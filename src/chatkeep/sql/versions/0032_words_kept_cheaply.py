"""Words of messages are kept for little more than half of what it took, ends of answers told too.

What is kept, what is found and by whom is as before. Dear was what stood around it: functions
with a `set` clause or a sub-select are called, the others become part of what calls them; the
condition of a trigger is read from its text in every statement that writes the table, its
function's is not; and a block with an `exception` that writes is a transaction of its own.

The functions without a `set` clause look up no name when they are called: the names in a body
that begins with `return` are bound when it is made.
"""

from __future__ import annotations

from alembic import op

revision = "0032"
down_revision = "0031"

# To replace their functions, whoever migrates is a member of the roles meanwhile; and to make
# triggers of these, allowed to call them.
MEANWHILE = """
do $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant chatkeep_search, chatkeep_webhooks to %I', current_user);
  end if;
end
$$;
grant create on schema chat to chatkeep_search;
grant create on schema chatkeep to chatkeep_webhooks;
set local role chatkeep_search;
grant execute on function chat.keep_words() to public;
set local role chatkeep_webhooks;
grant execute on function chatkeep.tell_webhooks() to public;
reset role;
"""

ALONE = """
set local role chatkeep_search;
revoke all on function chat.keep_words() from public;
set local role chatkeep_webhooks;
revoke all on function chatkeep.tell_webhooks() from public;
reset role;
revoke create on schema chat from chatkeep_search;
revoke create on schema chatkeep from chatkeep_webhooks;
do $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('revoke chatkeep_search, chatkeep_webhooks from %I', current_user);
  end if;
end
$$;
"""

WORDS = r"""
-- The configuration for a language tag of a profile. Nothing chosen counts as English.
create or replace function chat.search_language(locale text) returns regconfig
language sql immutable parallel safe
return case when locale is null then 'english'::regconfig else coalesce(
  ('{arabic,catalan,danish,german,greek,english,spanish,basque,finnish,french,irish,hindi,
     hungarian,armenian,indonesian,italian,lithuanian,norwegian,nepali,dutch,norwegian,norwegian,
     portuguese,romanian,russian,serbian,swedish,tamil,turkish,yiddish}'::regconfig[])
  [array_position('{ar,ca,da,de,el,en,es,eu,fi,fr,ga,hi,
     hu,hy,id,it,lt,nb,ne,nl,nn,no,
     pt,ro,ru,sr,sv,ta,tr,yi}'::text[], split_part(lower(locale), '-', 1))],
  'simple'::regconfig) end;

-- The lexeme that stands for an owner. Found or forged in a text it opens nothing: what is
-- found by it is compared with the caller again.
create or replace function chat.search_owner(user_id text) returns text
language sql stable parallel safe
return encode(sha256(convert_to(user_id, 'UTF8')), 'hex');

-- What of a message is looked through: its first pages, with a space after so many signs
-- without one, and no beginnings of comments. A short text has no such row of signs; and to
-- count signs is dear, where there are fewer bytes than may be signs.
create function chat.searched_text(content text) returns text
language sql immutable parallel safe
return case when octet_length(content) < 200 then replace(content, '<!', '  ')
  else regexp_replace(replace(
      case when octet_length(content) <= 50000 then content else left(content, 50000) end,
      '<!', '  '), '(\S{200})', '\1 ', 'g') end;

-- As they stand and as their language declines them.
create function chat.words_in(user_id text, said text, language regconfig) returns tsvector
language sql stable parallel safe
return to_tsvector('simple', said)
  || case when language = 'simple'::regconfig then ''::tsvector
       else to_tsvector(language, said) end
  || array_to_tsvector(array[chat.search_owner(user_id)]);

create or replace function chat.words_of(user_id text, content text, locale text)
returns tsvector
language sql stable parallel safe
return chat.words_in(user_id, chat.searched_text(content), chat.search_language(locale));
"""

KEPT = """
set local role chatkeep_search;

-- Called by triggers alone, with the row that their own statement has written: a message that
-- no answer is streamed into, or the end of an answer. Conditions of the triggers themselves
-- would be read from their text in each statement.
create or replace function chat.keep_words() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  message text;
  said text;
  at timestamptz;
  spoken text;
  language regconfig := 'english'::regconfig;
  words tsvector;
begin
  if tg_table_name = 'messages' then
    if new.run_id is not null or new.content = '' then
      return null;
    end if;
    message := new.id;
    said := new.content;
    at := new.created_at;
  else
    if new.state in ('queued', 'running') or new.state = old.state then
      return null;
    end if;
    message := new.message_id;
    select m.content, m.created_at into said, at from chat.messages m
    where m.user_id = new.user_id and m.conversation_id = new.conversation_id and m.id = message
      and m.content <> '';
    if not found then
      return null;
    end if;
  end if;
  spoken := (select p.locale from chat.profiles p where p.id = new.user_id);
  if spoken is not null then
    language := chat.search_language(spoken);
  end if;
  said := chat.searched_text(said);
  begin
    words := chat.words_in(new.user_id, said, language);
  exception when program_limit_exceeded then
    -- More different words than a vector holds: what was said is kept, and not found.
    return null;
  end;
  insert into chat.message_words as kept (user_id, conversation_id, message_id, said_at, words)
  values (new.user_id, new.conversation_id, message, at, words)
  on conflict (user_id, conversation_id, message_id) do update
    set words = excluded.words where kept.words <> excluded.words;
  return null;
end
$$;

reset role;
"""

_TOLD = """
set local role chatkeep_webhooks;

-- Called by triggers alone, with the row that their own statement has written.
create or replace function chatkeep.tell_webhooks() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  event constant text := tg_argv[0];
  given jsonb;
  about jsonb;
begin{ended}
  if not exists (select from chatkeep.webhooks w where event = any (w.events)) then
    return null;
  end if;
  if tg_op = 'DELETE' then
    given := to_jsonb(old);
  else
    given := to_jsonb(new);
  end if;
  if tg_table_name = 'users' then
    about := jsonb_build_object('account', given -> 'id', 'is_anonymous', given -> 'is_anonymous');
  elsif tg_table_name = 'user_sessions' then
    about := jsonb_build_object('user_id', given -> 'user_id', 'session_id', given -> 'id',
      'issuer', given -> 'issuer', 'reason', given -> 'reason');
  elsif tg_table_name = 'conversations' then
    about := jsonb_build_object('user_id', given -> 'user_id', 'conversation_id', given -> 'id');
  else
    about := jsonb_build_object('user_id', given -> 'user_id',
      'conversation_id', given -> 'conversation_id', 'message_id', given -> 'message_id',
      'run_id', given -> 'id', 'state', given -> 'state', 'error_code', given -> 'error_code',
      'model', given -> 'model', 'prompt_tokens', given -> 'prompt_tokens',
      'completion_tokens', given -> 'completion_tokens', 'cost', given ->> 'cost');
  end if;
  insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, args)
  select 'webhook:' || w.name, 'send_webhook', jsonb_build_object('sealed', jsonb_build_object(
    'id', 'msg_' || replace(said.id::text, '-', ''), 'event', event,
    'at', extract(epoch from now())::float8, 'about', about)::text)
  from chatkeep.webhooks w, (select gen_random_uuid() as id offset 0) said
  where event = any (w.events);
  return null;
end
$$;

reset role;
"""
TOLD = _TOLD.replace(
    "{ended}",
    """
  if tg_table_name = 'runs' then
    if new.state in ('queued', 'running') or new.state = old.state then
      return null;
    end if;
  end if;""",
)

TRIGGERS = """
create or replace trigger message_said after insert on chat.messages
  for each row execute function chat.keep_words();
create or replace trigger run_ended after update of state on chat.runs
  for each row execute function chat.keep_words();
create or replace trigger webhooks_answer_finished after update of state on chat.runs
  for each row execute function chatkeep.tell_webhooks('answer.finished');
"""

WORDS_BEFORE = r"""
create or replace function chat.words_of(user_id text, content text, locale text)
returns tsvector
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return (
  select to_tsvector('simple', said.bounded)
    || case when chat.search_language(locale) = 'simple'::regconfig then ''::tsvector
         else to_tsvector(chat.search_language(locale), said.bounded) end
    || array_to_tsvector(array[chat.search_owner(user_id)])
  from (
    select regexp_replace(replace(left(content, 50000), '<!', '  '), '(\S{200})', '\1 ', 'g')
      as bounded
    offset 0
  ) said
);
drop function chat.words_in, chat.searched_text;
create or replace function chat.search_owner(user_id text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return encode(sha256(convert_to(user_id, 'UTF8')), 'hex');
create or replace function chat.search_language(locale text) returns regconfig
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
"""

KEPT_BEFORE = """
set local role chatkeep_search;

create or replace function chat.keep_words() returns trigger language plpgsql
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

reset role;
"""

TRIGGERS_BEFORE = """
create or replace trigger message_said after insert on chat.messages
  for each row when (new.run_id is null and new.content <> '')
  execute function chat.keep_words();
create or replace trigger run_ended after update of state on chat.runs
  for each row when (new.state not in ('queued', 'running') and new.state <> old.state)
  execute function chat.keep_words();
create or replace trigger webhooks_answer_finished after update of state on chat.runs
  for each row when (new.state not in ('queued', 'running') and new.state <> old.state)
  execute function chatkeep.tell_webhooks('answer.finished');
"""


def upgrade() -> None:
    """Replace what runs at every message; servers of the version before go on."""
    for part in (MEANWHILE, WORDS, KEPT, TOLD, TRIGGERS, ALONE):
        op.execute(part)


def downgrade() -> None:
    """Keep and tell as before."""
    told = _TOLD.replace("{ended}", "")
    for part in (MEANWHILE, TRIGGERS_BEFORE, KEPT_BEFORE, told, WORDS_BEFORE, ALONE):
        op.execute(part)
