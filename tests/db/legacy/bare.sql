-- As a first prototype makes them: no owner, no key, no zone, and whatever came in.
create schema chat;
create table chat.conversations (
  id varchar(40), title varchar(80), created_at timestamp, updated_at timestamp);
create table chat.messages (
  id varchar(40), conversation_id varchar(40), role varchar(20), content text,
  created_at timestamp, words tsvector generated always as (to_tsvector('simple', content)) stored);
insert into chat.conversations values
  ('first', 'One', '2024-03-01 12:00', '2024-03-01 13:00'),
  ('first', 'One again', '2024-03-01 14:00', null),
  (null, 'No id', null, null),
  ('late', null, 'infinity', '-infinity');
insert into chat.messages (id, conversation_id, role, content, created_at) values
  ('m1', 'first', 'user', 'Hello', '2024-03-01 12:00'),
  ('m2', 'first', 'assistant', 'Hello yourself', '2024-03-01 12:00:01'),
  ('m2', 'first', 'user', 'The same id', '2024-03-01 12:00:02'),
  (null, 'first', null, null, null),
  ('m1', 'late', 'user', 'Only here', '2024-03-05 09:00'),
  ('m9', 'late', 'assistant', 'Only there', '2024-03-05 10:00'),
  ('lost', 'gone', 'user', 'My conversation was deleted', '2024-02-01 08:00'),
  ('lost too', 'gone', 'assistant', 'So was mine', '2024-02-01 08:01'),
  ('adrift', null, 'user', 'I never had one', '2024-02-02 08:00');
