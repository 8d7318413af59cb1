-- As an app on Supabase makes them: uuids, keys, checks, defaults, policies, grants, a trigger.
create schema chat;
create schema auth;
create table auth.users (id uuid primary key);
insert into auth.users values
  ('a1a1a1a1-0000-4000-8000-000000000001'), ('b0b0b0b0-0000-4000-8000-000000000002');
create table chat.conversations (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null default 'a1a1a1a1-0000-4000-8000-000000000001'
    references auth.users on delete cascade,
  title text not null default 'New chat' check (length(title) < 80),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create table chat.messages (
  id uuid primary key default gen_random_uuid(),
  conversation_id uuid not null references chat.conversations on delete cascade,
  role text not null check (role in ('user', 'assistant')),
  content text not null check (content <> ''),
  tokens integer not null,
  created_at timestamptz default now()
);
create index on chat.messages (conversation_id, created_at);
create index on chat.conversations (user_id) where title <> '';
create index words on chat.messages using gin (to_tsvector('simple', content));
create index by_tokens on chat.messages (tokens);
alter table chat.conversations enable row level security;
alter table chat.messages enable row level security;
create policy own on chat.conversations
  using (user_id = 'a1a1a1a1-0000-4000-8000-000000000001');
create policy own on chat.messages
  using (conversation_id in (select id from chat.conversations));
create policy debug on chat.messages using (true) with check (true);
do $$ begin
  if to_regrole('legacy_reader') is null then create role legacy_reader; end if;
end $$;
grant usage, create on schema chat to public;
grant all on all tables in schema chat to legacy_reader, public;
grant select (content) on chat.messages to legacy_reader with grant option;
create function chat.touch() returns trigger language plpgsql as
  $$ begin new.updated_at := now(); return new; end $$;
create trigger touch before update on chat.conversations
  for each row execute function chat.touch();
create trigger was_off before update on chat.conversations
  for each row execute function chat.touch();
alter table chat.conversations disable trigger was_off;
insert into chat.conversations values
  ('c0c0c0c0-0000-4000-8000-000000000001', 'a1a1a1a1-0000-4000-8000-000000000001',
    'Of cabbages', '2024-03-01 12:00+00', '2024-03-01 13:00+00'),
  ('c0c0c0c0-0000-4000-8000-000000000002', 'b0b0b0b0-0000-4000-8000-000000000002',
    'Of kings', '2024-03-02 12:00+00', '2024-03-02 13:00+00'),
  ('c0c0c0c0-0000-4000-8000-000000000003', 'a1a1a1a1-0000-4000-8000-000000000001',
    'Empty', '2024-03-03 12:00+00', '2024-03-03 12:00+00');
insert into chat.messages values
  ('e0e0e0e0-0000-4000-8000-000000000003', 'c0c0c0c0-0000-4000-8000-000000000001',
    'user', 'And why?', 3, '2024-03-01 12:02+00'),
  ('e0e0e0e0-0000-4000-8000-000000000002', 'c0c0c0c0-0000-4000-8000-000000000001',
    'assistant', 'Boiling.', 2, '2024-03-01 12:00+00'),
  ('e0e0e0e0-0000-4000-8000-000000000001', 'c0c0c0c0-0000-4000-8000-000000000001',
    'user', 'Is the sea hot?', 5, '2024-03-01 12:00+00'),
  ('e0e0e0e0-0000-4000-8000-000000000004', 'c0c0c0c0-0000-4000-8000-000000000002',
    'user', 'Have pigs wings?', 4, '2024-03-02 12:00+00');
alter table chat.conversations force row level security;
