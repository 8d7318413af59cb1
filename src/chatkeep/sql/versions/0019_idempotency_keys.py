"""Idempotency keys, and files that may be kept outside the database and used more than once.

A key belongs to one person and is kept for a day, with the answer that it got, sealed. A
file outlives the conversation it was first sent in for as long as a fork uses it. Where the
bytes are in a bucket, the worker may see the names of its objects, which say nothing.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0019"
down_revision = "0018"

TABLES = """
create table chat.idempotency_keys (
  user_id text not null,
  key text not null,
  fingerprint bytea not null,
  holder text,
  busy_until timestamptz,
  answer bytea,
  created_at timestamptz not null default now(),
  primary key (user_id, key)
);
create index idempotency_keys_by_age on chat.idempotency_keys (created_at);

alter table chat.chatkit_attachments
  add column object_key text,
  add column digest bytea,
  drop constraint chatkit_attachments_conversation,
  add constraint chatkit_attachments_conversation foreign key (user_id, conversation_id)
    references chat.conversations (user_id, id)
    on update cascade on delete set null (conversation_id);
create index chatkit_attachments_objects on chat.chatkit_attachments (object_key)
  where object_key is not null;
create index chatkit_attachments_of_conversation
  on chat.chatkit_attachments (user_id, conversation_id);

create table chat.file_uses (
  user_id text not null,
  file_id text not null,
  conversation_id text not null,
  primary key (user_id, file_id, conversation_id),
  constraint file_uses_file foreign key (user_id, file_id)
    references chat.chatkit_attachments (user_id, id) on update cascade on delete cascade,
  constraint file_uses_conversation foreign key (user_id, conversation_id)
    references chat.conversations (user_id, id) on update cascade on delete cascade
);
create index file_uses_of_conversation on chat.file_uses (user_id, conversation_id);
"""

RIGHTS = """
create policy idempotency_keys_of_caller on chat.idempotency_keys
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update, delete on chat.idempotency_keys to chatkeep_app;
create policy idempotency_keys_to_purge on chat.idempotency_keys
  for all to chatkeep_worker
  using (created_at < now() - interval '24 hours') with check (false);
grant select (created_at), delete on chat.idempotency_keys to chatkeep_worker;

create policy file_uses_of_caller on chat.file_uses
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update, delete on chat.file_uses to chatkeep_app;
create policy file_uses_counted on chat.file_uses
  for select to chatkeep_worker using (true);
grant select (user_id, file_id) on chat.file_uses to chatkeep_worker;

drop policy chatkit_attachments_to_purge on chat.chatkit_attachments;
create policy chatkit_attachments_to_purge on chat.chatkit_attachments
  for delete to chatkeep_worker
  using (coalesce(conversation_id, '') = '' and created_at < now() - interval '24 hours'
    and not exists (select from chat.file_uses u where u.user_id = chatkit_attachments.user_id
      and u.file_id = chatkit_attachments.id));
create policy chatkit_attachments_swept on chat.chatkit_attachments
  for select to chatkeep_worker using (true);
grant select (object_key) on chat.chatkit_attachments to chatkeep_worker;
"""


def upgrade() -> None:
    """Add the tables; servers of the version before do not see them."""
    shut = closed("chat.idempotency_keys", "chat.file_uses")
    for part in (TABLES, shut, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: what was uploaded to a bucket would be lost to everybody."""
    raise RuntimeError("restore a backup instead: going back would forget where files are kept")
