"""A row that is looked up by its key is not looked for in an index of lists.

PostgreSQL takes the newest of indexes that it thinks equally good. One that leads with the
person, or the conversation, could be used to look for one of their rows: all of them were read.
The indexes in place of those are built, and those dropped, beside the traffic: see
`indexes.BESIDE` and `indexes.REPLACED`. What servers of the version before list takes longer
meanwhile.
"""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"

AS_BEFORE = """
create index if not exists messages_siblings
  on chat.messages (user_id, conversation_id, parent_id);
create index if not exists conversations_newest
  on chat.conversations (user_id, updated_at desc, id desc) where deleted_at is null;
create index if not exists conversations_by_creation
  on chat.conversations (user_id, created_at, id) where deleted_at is null;
create index if not exists chatkit_attachments_of_conversation
  on chat.chatkit_attachments (user_id, conversation_id);
create index if not exists runs_of_message
  on chat.runs (user_id, conversation_id, message_id);
alter table chat.runs drop constraint if exists runs_request_key,
  add constraint runs_request_key unique (user_id, request_key);
drop index if exists chat.messages_answers, chat.messages_first, chat.conversations_listed,
  chat.conversations_made, chat.chatkit_attachments_sent, chat.runs_of_answer,
  chat.runs_of_request;
"""


def upgrade() -> None:
    """Change nothing at once: servers work on either."""


def downgrade() -> None:
    """Build the indexes of before, and drop those in their place."""
    op.execute(AS_BEFORE)
