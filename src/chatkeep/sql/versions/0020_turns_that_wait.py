"""Answers that wait for their turn, answers that go on, and titles that a person typed.

One answer of a conversation is made at a time, and any number wait. What one that waits was
asked with is kept until its turn comes, so that whichever node is there can begin it.
"""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"

WAITING = """
alter table chat.runs
  -- Who asked, and how it is to be answered; only while it waits.
  add column if not exists asked jsonb,
  add column if not exists queued_at timestamptz,
  -- How much of the message an earlier run had said: that is not charged again.
  add column if not exists said_before integer not null default 0;
drop index chat.runs_one_at_a_time;
create unique index runs_one_at_a_time
  on chat.runs (user_id, conversation_id) where state = 'running';
create index runs_waiting
  on chat.runs (user_id, conversation_id, queued_at, id) where state = 'queued';
"""

TITLES = """
alter table chat.conversations
  add column if not exists title_typed boolean not null default false;
"""


def upgrade() -> None:
    """Add the columns; servers of the version before let nothing wait, and still make one."""
    for part in (WAITING, TITLES):
        op.execute(part)


def downgrade() -> None:
    """Give up what waits, and forget which titles were typed."""
    op.execute(
        "update chat.runs set state = 'interrupted', ended_at = now(),"
        " error_code = 'answer_interrupted' where state = 'queued'"
    )
    op.execute("drop index chat.runs_waiting")
    op.execute("drop index chat.runs_one_at_a_time")
    op.execute(
        "create unique index runs_one_at_a_time"
        " on chat.runs (user_id, conversation_id) where state in ('queued', 'running')"
    )
    op.execute("alter table chat.runs drop column asked, drop column queued_at")
    op.execute("alter table chat.runs drop column said_before")
    op.execute("alter table chat.conversations drop column title_typed")
