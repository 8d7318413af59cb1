-- The owner stands beside each message, and not all of them agree.
create schema chat;
create table chat.conversations (
  id text not null, user_id text not null, title text,
  created_at timestamptz, updated_at timestamptz, primary key (user_id, id));
create table chat.messages (
  id text primary key, conversation_id text, user_id text, role text, content text,
  parent_id text, created_at timestamptz);
insert into chat.conversations values
  ('shared-between-two-people', 'ana', 'Ana''s', '2024-03-01', '2024-03-01'),
  ('shared-between-two-people', 'bo', 'Bo''s', '2024-03-02', '2024-03-02'),
  ('short', 'ana', 'Ana''s short', '2024-03-01', '2024-03-01'),
  ('short', 'bo', 'Bo''s short', '2024-03-01', '2024-03-01'),
  ('the-conversation-of-ana', 'ana', 'Private', '2024-03-01', '2024-03-01'),
  ('nobodys-but-ana-wrote-it', '', 'Guess', '2024-03-01', '2024-03-01'),
  ('nobodys-and-two-wrote-it', '', 'No guess', '2024-03-01', '2024-03-01');
insert into chat.messages values
  ('s1', 'shared-between-two-people', 'ana', 'user', 'Ana says', null, '2024-03-01 01:00'),
  ('s2', 'shared-between-two-people', 'bo', 'user', 'Bo says', null, '2024-03-01 02:00'),
  ('s3', 'shared-between-two-people', null, 'assistant', 'To whom?', null, '2024-03-01 03:00'),
  ('h1', 'short', 'ana', 'user', 'Ana is short', null, '2024-03-01 01:00'),
  ('h2', 'short', 'bo', 'user', 'Bo is short', null, '2024-03-01 01:00'),
  ('p1', 'the-conversation-of-ana', 'ana', 'user', 'Root', null, '2024-03-01 01:00'),
  ('p2', 'the-conversation-of-ana', null, 'assistant', 'First answer', 'p1', '2024-03-01 02:00'),
  ('p3', 'the-conversation-of-ana', null, 'assistant', 'Other answer', 'p1', '2024-03-01 03:00'),
  ('p4', 'the-conversation-of-ana', 'ana', 'user', 'Lost its parent', 'x9', '2024-03-01 04:00'),
  ('p5', 'the-conversation-of-ana', 'bo', 'user', 'Smuggled in by Bo', 'p1', '2024-03-01 05:00'),
  ('p6', 'the-conversation-of-ana', 'ana', 'user', 'Loops', 'p6', '2024-03-01 06:00'),
  ('g1', 'nobodys-but-ana-wrote-it', 'ana', 'user', 'I am Ana', null, '2024-03-01 01:00'),
  ('g2', 'nobodys-but-ana-wrote-it', null, 'assistant', 'Hello Ana', null, '2024-03-01 02:00'),
  ('n1', 'nobodys-and-two-wrote-it', 'ana', 'user', 'I am Ana', null, '2024-03-01 01:00'),
  ('n2', 'nobodys-and-two-wrote-it', 'bo', 'user', 'I am Bo', null, '2024-03-01 02:00'),
  ('n3', 'nobodys-and-two-wrote-it', null, 'assistant', 'Hello', null, '2024-03-01 03:00');
