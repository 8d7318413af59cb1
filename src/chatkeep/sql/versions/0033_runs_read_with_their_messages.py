"""How an answer ended is read from the index that finds it.

A page of a conversation asks for the state, model and error of each of its answers, and why it
ended, and nothing else of their runs: of every two messages, one page of a table that is seldom in
memory. The index of runs by their message has them now, beside the run's id, and is half as large
again.

It is built, and the one that it replaces dropped, beside the traffic: see `indexes.BESIDE` and
`indexes.REPLACED`.
"""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"

AS_BEFORE = """
create index if not exists runs_of_answer on chat.runs (conversation_id, user_id, message_id);
drop index if exists chat.runs_of_messages;
"""


def upgrade() -> None:
    """Change nothing at once: servers work on either."""


def downgrade() -> None:
    """Build the index of before, and drop that in its place."""
    op.execute(AS_BEFORE)
