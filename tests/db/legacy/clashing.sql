-- Names of ours that mean something else there, odd types, and indexes called like ours.
create schema chat;
create table chat.conversations (
  id char(12) primary key, user_id integer, title varchar(9) collate "C", head_id integer,
  created_at date, updated_at timestamp default 'infinity', deleted_at boolean default false);
create index conversations_newest on chat.conversations (created_at);
create table chat.messages (
  id uuid, conversation_id char(12), role text, content json, parts json, run_id integer,
  client_id integer, created_at timestamp);
create unique index messages_siblings on chat.messages (id);
insert into chat.conversations (id, user_id, title, head_id, created_at) values
  ('short', 7, 'Odd', 3, '2024-03-01');
insert into chat.messages values
  ('e0e0e0e0-0000-4000-8000-000000000001', 'short', ' User ', '["two", "parts"]', '[1]', 5, 6,
    '2024-03-01 12:00');
