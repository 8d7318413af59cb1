"""PostgreSQL takes stock of the tables of chats when they have a thousand rows, and not fifty.

Of one that it has never looked at it takes ten pages for granted, and looks rows up by their
keys. Of one that had fifty rows when it looked, which are two pages, it reads all there is for
each row, in what was prepared and in the checks of foreign keys too, which a connection plans
once. Whoever then brought a long conversation, or copied one, waited for the square of it, and
after fifteen seconds in vain, until autovacuum had come by again.

What it knows of small tables that are there already it knows until they have grown by so many.
"""

from __future__ import annotations

from alembic import op

revision = "0036"
down_revision = "0034"

#: Those that rows are looked up in for others: by foreign keys, in what is copied or erased.
LATER = """
do $$
declare
  one text;
begin
  foreach one in array array['conversations', 'messages', 'message_words', 'runs', 'responses',
    'shares', 'chatkit_threads', 'chatkit_items', 'chatkit_attachments', 'file_uses',
    'conversation_metadata']
  loop
    execute format('alter table chat.%I set (autovacuum_analyze_threshold = 1000,'
      ' autovacuum_vacuum_threshold = 1000)', one);
  end loop;
end
$$;
"""

AS_BEFORE = """
do $$
declare
  one text;
begin
  foreach one in array array['conversations', 'messages', 'message_words', 'runs', 'responses',
    'shares', 'chatkit_threads', 'chatkit_items', 'chatkit_attachments', 'file_uses',
    'conversation_metadata']
  loop
    execute format('alter table chat.%I reset (autovacuum_analyze_threshold,'
      ' autovacuum_vacuum_threshold)', one);
  end loop;
end
$$;
"""


def upgrade() -> None:
    """Wait for more rows; what is known of the tables stays."""
    op.execute(LATER)


def downgrade() -> None:
    """Take stock as often as of every table."""
    op.execute(AS_BEFORE)
