-- Numbers for ids, several persons, roles of other libraries, columns that must be filled.
create schema chat;
create type chat.speaker as enum ('human', 'ai', 'tool', 'system', 'Narrator');
create table chat.conversations (
  id bigint generated always as identity primary key,
  user_id text,
  title text,
  tenant integer not null,
  mood text not null default 'calm',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now());
create table chat.messages (
  id bigserial primary key,
  conversation_id bigint not null references chat.conversations (id) on delete cascade,
  role chat.speaker not null,
  content jsonb not null,
  created_at timestamptz not null default now(),
  unique (conversation_id, id));
insert into chat.conversations (user_id, title, tenant, created_at, updated_at) values
  ('ana', 'Mine', 1, '2024-03-01', '2024-03-02'),
  ('bo', 'His', 1, '2024-03-01', '2024-03-02'),
  (null, 'Whose?', 2, '2024-03-01', '2024-03-02'),
  ('', 'Whose too?', 2, '2024-03-01', '2024-03-02');
alter sequence chat.messages_id_seq restart 8;
insert into chat.messages (conversation_id, role, content, created_at) values
  (1, 'system', '"Be kind."', '2024-03-01'),
  (1, 'human', '"What is 6 times 7?"', '2024-03-01'),
  (1, 'tool', '{"product": 42}', '2024-03-01'),
  (1, 'ai', '"It is 42."', '2024-03-01'),
  (1, 'Narrator', '"The end."', '2024-03-01'),
  (2, 'human', '"Psst."', '2024-03-01'),
  (3, 'human', '"Anybody?"', '2024-03-01');
