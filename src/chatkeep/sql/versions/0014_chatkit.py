"""What ChatKit has and the conversations have not: items of its own kinds, states, files.

A thread is a conversation and its messages are the conversation's; a row here is an item
that is no message (a widget, hidden context), or what ChatKit knows of a message beyond
its text. Items are kept as ChatKit wrote them, in the order of `seq`.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0014"
down_revision = "0013"

TABLES = """
create table chat.chatkit_threads (
  user_id text not null,
  conversation_id text not null,
  thread jsonb not null default '{}',
  feedback jsonb not null default '{}',
  busy_with text,
  busy_until timestamptz,
  primary key (user_id, conversation_id),
  constraint chatkit_threads_conversation foreign key (user_id, conversation_id)
    references chat.conversations (user_id, id) on update cascade on delete cascade
);

create table chat.chatkit_items (
  user_id text not null,
  conversation_id text not null,
  id text not null,
  seq bigint generated always as identity,
  -- The message it belongs to or comes after; null before all of them.
  message_id text,
  item jsonb not null,
  hidden boolean not null default false,
  primary key (user_id, conversation_id, id),
  constraint chatkit_items_conversation foreign key (user_id, conversation_id)
    references chat.conversations (user_id, id) on update cascade on delete cascade,
  constraint chatkit_items_message foreign key (user_id, conversation_id, message_id)
    references chat.messages (user_id, conversation_id, id) on update cascade on delete cascade
);

create table chat.chatkit_attachments (
  user_id text not null,
  id text not null,
  conversation_id text,
  attachment jsonb not null,
  media_type text not null,
  size bigint not null,
  content bytea,
  created_at timestamptz not null default now(),
  primary key (user_id, id),
  constraint chatkit_attachments_conversation foreign key (user_id, conversation_id)
    references chat.conversations (user_id, id) on update cascade on delete cascade
);
-- What was announced or uploaded and never sent is erased after a day.
create index chatkit_attachments_unsent on chat.chatkit_attachments (created_at)
  where conversation_id is null;

create index conversations_by_creation
  on chat.conversations (user_id, created_at, id) where deleted_at is null;
"""

RIGHTS = """
create policy chatkit_threads_of_caller on chat.chatkit_threads
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update, delete on chat.chatkit_threads to chatkeep_app;

create policy chatkit_items_of_caller on chat.chatkit_items
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update, delete on chat.chatkit_items to chatkeep_app;

create policy chatkit_attachments_of_caller on chat.chatkit_attachments
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update, delete on chat.chatkit_attachments to chatkeep_app;

create policy chatkit_attachments_to_purge on chat.chatkit_attachments
  for all to chatkeep_worker
  using (coalesce(conversation_id, '') = '' and created_at < now() - interval '24 hours')
  with check (false);
grant select (created_at, conversation_id), delete on chat.chatkit_attachments to chatkeep_worker;
"""


def upgrade() -> None:
    """Add the tables; servers of the version before do not see them."""
    shut = closed("chat.chatkit_threads", "chat.chatkit_items", "chat.chatkit_attachments")
    for part in (TABLES, shut, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: what people wrote and uploaded through ChatKit would be gone."""
    raise RuntimeError("restore a backup instead: going back would erase files and widgets")
