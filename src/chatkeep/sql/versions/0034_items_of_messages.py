"""Items of ChatKit are found by the message that they belong to, or that there is none.

All of a thread were read for those of one page, and by each message that was erased with its
conversation. Two indexes, as of messages: neither can be used to look for one item by its id,
and of the second few threads have an entry.

They are built beside the traffic: see `indexes.BESIDE`.
"""

from __future__ import annotations

from alembic import op

revision = "0034"
down_revision = "0033"

AS_BEFORE = """
drop index if exists chat.chatkit_items_of_messages, chat.chatkit_items_first;
"""


def upgrade() -> None:
    """Change nothing at once: servers work without them."""


def downgrade() -> None:
    """Drop them."""
    op.execute(AS_BEFORE)
