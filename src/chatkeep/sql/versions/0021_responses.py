"""What clients of the OpenAI API know of an answer beside its words, and of a conversation.

A response is a run that such a client asked for: what it asked with, and which items it
brought. Its words are the message's. A run says how many parts its answer had when it began,
because an answer that went on belongs to several runs.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0021"
down_revision = "0020"

TABLES = """
alter table chat.runs add column begun integer not null default 0;

create table chat.responses (
  user_id text not null,
  id text not null,
  kind text not null check (kind in ('response', 'completion')),
  -- What was asked beside the input: the model, instructions, tools, metadata.
  request jsonb not null,
  -- The items that the request brought, by their ids, oldest first.
  input text[] not null,
  -- The request named no conversation, so this one is its own.
  alone boolean not null,
  primary key (user_id, id),
  constraint responses_run foreign key (user_id, id)
    references chat.runs (user_id, id) on update cascade on delete cascade
);

create table chat.conversation_metadata (
  user_id text not null,
  conversation_id text not null,
  metadata jsonb not null,
  primary key (user_id, conversation_id),
  constraint conversation_metadata_conversation foreign key (user_id, conversation_id)
    references chat.conversations (user_id, id) on update cascade on delete cascade
);
"""

RIGHTS = """
create policy responses_of_caller on chat.responses
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update, delete on chat.responses to chatkeep_app;

create policy conversation_metadata_of_caller on chat.conversation_metadata
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update, delete on chat.conversation_metadata to chatkeep_app;
"""


def upgrade() -> None:
    """Add the tables and the column; servers of the version before do not see them."""
    shut = closed("chat.responses", "chat.conversation_metadata")
    for part in (TABLES, shut, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Forget what the requests were; the conversations stay."""
    op.execute("drop table chat.responses, chat.conversation_metadata")
    op.execute("alter table chat.runs drop column begun")
