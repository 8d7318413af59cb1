"""Make chat tables that another application left into ours, in place, losing nothing.

Revision 0001 runs these parts around its own, all in one transaction: `OPEN` refuses what
cannot be adopted and takes off whatever would be in the way, `FILL` puts every row where it
belongs, `CLOSE` puts back what is not ours to keep off. On an empty database they do nothing.

A row goes to whom its `user_id` names. Where that is missing, a message goes with its
conversation, a conversation with the one person its messages name, and else to '', which is
nobody: kept, and shown to no one until `chatkeep assign`. What had to be changed by more
than its type (an id that two rows had, a role we do not know) stays in the column `adopted`.

Statements are put together here with `format('%I')`, because the shape of the tables is not
known; nothing of it runs on behalf of a caller.
"""

from __future__ import annotations

#: The SQLSTATE of a refusal that is worded for the operator.
REFUSED = "CK001"

OPEN = """
do $adopt$
declare
  tables regclass[];
  tbl regclass;
  state jsonb;
  one record;
begin
  select array_agg(oid::regclass order by relname) into tables from pg_class
  where relnamespace = to_regnamespace('chat') and relname in ('conversations', 'messages');
  if tables is null then
    return;
  end if;

  for one in
    select oid::regclass as name from pg_class
    where oid = any(tables) and (relkind <> 'r' or relispartition or relhassubclass)
  loop
    raise exception using errcode = 'CK001', message = format(
      '%s is a view, a partitioned or an inherited table; only a plain table can be adopted.',
      one.name);
  end loop;

  perform set_config('lock_timeout', '10s', true);
  foreach tbl in array tables loop
    execute format('lock table %s in access exclusive mode', tbl);
  end loop;

  for one in
    select needed.tbl, needed.col
    from (values ('conversations', 'id'), ('messages', 'id'), ('messages', 'conversation_id'),
      ('messages', 'role'), ('messages', 'content')) needed (tbl, col)
    join pg_class c on c.oid = any(tables) and c.relname = needed.tbl
    where not exists (select from pg_attribute a
      where a.attrelid = c.oid and a.attname = needed.col and not a.attisdropped)
  loop
    raise exception using errcode = 'CK001', message = format(
      'chat.%s has no column %s, so it is not a chat table that can be adopted.',
      one.tbl, one.col);
  end loop;
  for one in
    select attrelid::regclass as tbl, attname, format_type(atttypid, atttypmod) as is_now
    from pg_attribute
    where attrelid = any(tables) and not attisdropped
      and attname in ('created_at', 'updated_at')
      and atttypid not in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
  loop
    raise exception using errcode = 'CK001', message = format(
      '%s.%s is of type %s; only a date or a timestamp, with or without zone, can be adopted.',
      one.tbl, one.attname, one.is_now);
  end loop;
  for one in
    select conname, conrelid::regclass as tbl, confrelid::regclass as target from pg_constraint
    where contype = 'f' and confrelid = any(tables) and conrelid <> all(tables)
  loop
    raise exception using errcode = 'CK001', message = format(
      'The foreign key %I of %s depends on the key of %s, which becomes (user_id, id):'
      ' drop that foreign key first.', one.conname, one.tbl, one.target);
  end loop;
  for one in
    select distinct r.rulename, r.ev_class::regclass as tbl, d.refobjid::regclass as target
    from pg_depend d join pg_rewrite r on r.oid = d.objid
    where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
      and d.refobjid = any(tables)
  loop
    raise exception using errcode = 'CK001', message = format(
      'The view or rule %I of %s reads %s and would show everybody''s rows: drop it first'
      ' (a view may be made again afterwards, with security_invoker).',
      one.rulename, one.tbl, one.target);
  end loop;

  select jsonb_build_object(
    'triggers', coalesce((
      select jsonb_agg(jsonb_build_array(tgrelid::regclass::text, tgname, tgenabled))
      from pg_trigger where tgrelid = any(tables) and not tgisinternal and tgenabled <> 'D'
    ), '[]'),
    'identities', (
      select jsonb_agg(jsonb_build_array(oid::regclass::text, relreplident))
      from pg_class where oid = any(tables)
    )) into state;
  perform set_config('chatkeep.adopting', state::text, true);

  foreach tbl in array tables loop
    execute format('alter table %s owner to current_user', tbl);
    execute format('alter table %s disable row level security, no force row level security,'
      ' replica identity full, disable trigger user', tbl);
  end loop;
  -- A policy of somebody else's may open what ours close: permissive policies are added up.
  for one in select polname, polrelid::regclass as tbl from pg_policy
    where polrelid = any(tables)
  loop
    execute format('drop policy %I on %s', one.polname, one.tbl);
  end loop;
end
$adopt$;

do $adopt$
declare
  tables regclass[];
  ours text[] := array['user_id', 'id', 'title', 'created_at', 'updated_at', 'deleted_at',
    'conversation_id', 'parent_id', 'role', 'content'];
  times text[] := array['created_at', 'updated_at', 'deleted_at'];
  one record;
begin
  if coalesce(current_setting('chatkeep.adopting', true), '') = '' then
    return;
  end if;
  select array_agg(oid::regclass) into tables from pg_class
  where relnamespace = to_regnamespace('chat') and relname in ('conversations', 'messages');

  -- Columns that happen to have a name of ours, and mean something else, step aside.
  for one in
    select attrelid::regclass as tbl, attname from pg_attribute
    where attrelid = any(tables) and not attisdropped
      and (attname in ('head_id', 'parts', 'client_id', 'run_id', 'adopted')
        or (attname = 'deleted_at'
          and atttypid not in ('timestamptz'::regtype, 'timestamp'::regtype)))
  loop
    execute format('alter table %s rename column %I to %I',
      one.tbl, one.attname, 'former_' || one.attname);
  end loop;

  -- Keys and checks are replaced by ours; only links of columns that are not ours stay.
  for one in
    select k.conname, k.conrelid::regclass as tbl from pg_constraint k
    where k.conrelid = any(tables) and k.contype in ('f', 'c', 'u', 'x', 'p')
      and (k.contype <> 'f' or exists (select from pg_attribute a
        where a.attrelid = k.conrelid and a.attnum = any(k.conkey) and a.attname = any(ours)))
    order by k.contype <> 'f'
  loop
    execute format('alter table %s drop constraint %I', one.tbl, one.conname);
  end loop;
  for one in
    select i.indexrelid::regclass as idx from pg_index i
    join pg_class c on c.oid = i.indexrelid
    where i.indrelid = any(tables)
      and (i.indisunique or i.indpred is not null or i.indexprs is not null
        or c.relname like any(array['conversations\\_%', 'messages\\_siblings'])
        or exists (select from pg_attribute a
          where a.attrelid = i.indrelid and a.attnum = any(i.indkey) and a.attname = any(ours)
            and a.atttypid not in ('text'::regtype, 'timestamptz'::regtype)))
  loop
    execute format('drop index %s', one.idx);
  end loop;

  for one in
    select attrelid::regclass as tbl, attname, attgenerated <> '' as generated
    from pg_attribute
    where attrelid = any(tables) and attnum > 0 and not attisdropped and attname = any(ours)
  loop
    if one.generated then
      execute format('alter table %s alter column %I drop expression', one.tbl, one.attname);
    end if;
    execute format('alter table %s alter column %I drop identity if exists,'
      ' alter column %2$I drop default, alter column %2$I drop not null', one.tbl, one.attname);
  end loop;
  -- We insert rows without the columns that are not ours.
  for one in
    select attrelid::regclass as tbl, attname from pg_attribute
    where attrelid = any(tables) and attnum > 0 and not attisdropped
      and attnotnull and not atthasdef and attidentity = ''
  loop
    execute format('alter table %s alter column %I drop not null', one.tbl, one.attname);
  end loop;

  for one in
    select attrelid::regclass as tbl, string_agg(
      case
        when attname = any(times) then format(
          'alter column %I type timestamptz using %1$I::timestamp at time zone ''UTC''', attname)
        when atttypid in ('json'::regtype, 'jsonb'::regtype) then format(
          'alter column %I type text using %1$I #>> ''{}''', attname)
        else format('alter column %I type text collate "default" using %1$I::text', attname)
      end, ', ') as changes
    from pg_attribute
    where attrelid = any(tables) and attnum > 0 and not attisdropped and attname = any(ours)
      and atttypid not in ('text'::regtype, 'timestamptz'::regtype)
    group by 1
  loop
    execute format('alter table %s %s', one.tbl, one.changes);
  end loop;
end
$adopt$;
"""

FILL = """
do $adopt$
begin
  if coalesce(current_setting('chatkeep.adopting', true), '') = '' then
    return;
  end if;
  alter table chat.conversations add column adopted jsonb,
    add column chatkeep_key bigint generated always as identity,
    add column chatkeep_made boolean not null default false;
  alter table chat.messages add column adopted jsonb,
    add column chatkeep_key bigint generated always as identity,
    add column chatkeep_place bigint;
  -- Without statistics the joins below take hours where they could take seconds.
  analyze chat.conversations, chat.messages;

  update chat.messages set
    user_id = coalesce(user_id, ''), id = coalesce(id, ''),
    conversation_id = coalesce(conversation_id, ''),
    created_at = case when isfinite(created_at) then created_at end;
  update chat.conversations set
    user_id = coalesce(user_id, ''), id = coalesce(id, ''),
    created_at = case when isfinite(created_at) then created_at end,
    updated_at = case when isfinite(updated_at) then updated_at end;
  update chat.conversations c set
    created_at = coalesce(c.created_at, least(c.updated_at, m.earliest)),
    updated_at = coalesce(c.updated_at, greatest(c.created_at, m.latest)),
    user_id = case when c.user_id = '' and n.rows = 1 then coalesce(m.owner, '')
      else c.user_id end
  from (
      select conversation_id, min(created_at) as earliest, max(created_at) as latest,
        case when count(distinct nullif(user_id, '')) = 1 then max(user_id) end as owner
      from chat.messages group by 1
    ) m
    join (select id, count(*) as rows from chat.conversations group by 1) n
      on n.id = m.conversation_id
  where c.id = m.conversation_id and c.id <> '';
  update chat.conversations set
    created_at = coalesce(created_at, updated_at, now()),
    updated_at = coalesce(updated_at, created_at, now())
  where created_at is null or updated_at is null;

  -- Each message to the conversation of its own person; one that names nobody, to the only
  -- one there is; the others, and those whose conversation is gone, to one made for them.
  update chat.messages m set chatkeep_place = c.place
  from (
    select user_id, id, (array_agg(chatkeep_key order by created_at, chatkeep_key))[1] as place
    from chat.conversations where id <> '' group by 1, 2
  ) c
  where c.id = m.conversation_id and c.user_id = m.user_id;
  update chat.messages m set chatkeep_place = c.place
  from (
    select id, (array_agg(chatkeep_key order by created_at, chatkeep_key))[1] as place
    from chat.conversations where id <> '' group by 1 having count(distinct user_id) = 1
  ) c
  where m.chatkeep_place is null and m.user_id = '' and c.id = m.conversation_id;
  insert into chat.conversations (user_id, id, created_at, updated_at, chatkeep_made)
  select user_id, conversation_id, coalesce(min(created_at), now()),
    coalesce(max(created_at), now()), true
  from chat.messages where chatkeep_place is null group by 1, 2;
  update chat.messages m set chatkeep_place = c.chatkeep_key
  from chat.conversations c
  where m.chatkeep_place is null and c.chatkeep_made
    and c.user_id = m.user_id and c.id = m.conversation_id;

  update chat.conversations c set id = gen_random_uuid()::text,
    adopted = case when r.id <> '' then jsonb_build_object('id', r.id) end
  from (
    select chatkeep_key, id,
      row_number() over (partition by user_id, id
        order by chatkeep_made, created_at, chatkeep_key) as of_this_person,
      row_number() over (partition by id
        order by chatkeep_made, created_at, chatkeep_key) as of_anybody
    from chat.conversations
  ) r
  where r.chatkeep_key = c.chatkeep_key
    and (r.id = '' or r.of_this_person > 1 or (length(r.id) >= 16 and r.of_anybody > 1));

  update chat.messages m set
    user_id = c.user_id,
    conversation_id = c.id,
    role = r.role,
    content = coalesce(m.content, ''),
    created_at = coalesce(m.created_at, c.created_at),
    adopted = nullif(jsonb_strip_nulls(jsonb_build_object(
      'conversation_id', case when m.conversation_id not in ('', c.id) then m.conversation_id end,
      'role', case when m.role <> r.role then m.role end)), '{}')
  from chat.conversations c, chat.messages o, lateral (select case
    when lower(btrim(o.role)) in ('user', 'human', 'customer', 'client', 'visitor', 'you')
      then 'user'
    when lower(btrim(o.role)) in ('system', 'developer') then 'system'
    -- What tools said, and what we do not know, was part of an answer.
    else 'assistant' end as role) r
  where c.chatkeep_key = m.chatkeep_place and o.chatkeep_key = m.chatkeep_key;

  update chat.messages m set id = gen_random_uuid()::text,
    adopted = coalesce(m.adopted, '{}')
      || case when r.id = '' then '{}' else jsonb_build_object('id', r.id) end
  from (
    select chatkeep_key, id, row_number() over (
      partition by user_id, conversation_id, id order by created_at, chatkeep_key) as nth
    from chat.messages
  ) r
  where r.chatkeep_key = m.chatkeep_key and (r.id = '' or r.nth > 1);

  -- Numbers in order of size, not of their digits.
  create temporary table chatkeep_order on commit drop as
  select chatkeep_key, user_id, conversation_id, id, parent_id,
    row_number() over chain as nth, lag(id) over chain as previous,
    bool_or(parent_id is not null) over (partition by user_id, conversation_id) as is_tree
  from chat.messages
  window chain as (partition by user_id, conversation_id order by created_at,
    case when id ~ '^[0-9]{1,18}$' then id::bigint end nulls last, id collate "C");
  create index on chatkeep_order (user_id, conversation_id, id);
  analyze chatkeep_order;
  update chat.messages m set
    parent_id = case when o.is_tree then p.id else o.previous end,
    adopted = case when o.parent_id <> coalesce(p.id, '')
      then coalesce(m.adopted, '{}') || jsonb_build_object('parent_id', o.parent_id)
      else m.adopted end
  from chatkeep_order o left join chatkeep_order p on p.user_id = o.user_id
    and p.conversation_id = o.conversation_id and p.id = o.parent_id and p.nth < o.nth
  where o.chatkeep_key = m.chatkeep_key;
  update chat.conversations c set head_id = o.id
  from (
    select distinct on (user_id, conversation_id) user_id, conversation_id, id
    from chatkeep_order order by user_id, conversation_id, nth desc
  ) o
  where o.user_id = c.user_id and o.conversation_id = c.id;
  drop table chatkeep_order;

  alter table chat.conversations drop column chatkeep_key, drop column chatkeep_made;
  alter table chat.messages drop column chatkeep_key, drop column chatkeep_place;
end
$adopt$;
"""

CLOSE = """
do $adopt$
declare
  state jsonb := nullif(current_setting('chatkeep.adopting', true), '');
  one record;
begin
  for one in
    select t ->> 0 as tbl, t ->> 1 as name,
      case t ->> 2 when 'A' then 'always ' when 'R' then 'replica ' else '' end as when_fired
    from jsonb_array_elements(state -> 'triggers') t
  loop
    execute format('alter table %s enable %strigger %I', one.tbl, one.when_fired, one.name);
  end loop;
  for one in
    select t ->> 0 as tbl,
      case t ->> 1 when 'f' then 'full' when 'n' then 'nothing' else 'default' end as identity
    from jsonb_array_elements(state -> 'identities') t
  loop
    execute format('alter table %s replica identity %s', one.tbl, one.identity);
  end loop;
  perform set_config('chatkeep.adopting', '', true);
end
$adopt$;
"""
