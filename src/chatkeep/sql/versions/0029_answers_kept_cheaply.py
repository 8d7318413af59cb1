"""Long answers are not compressed anew each time they are kept.

While an answer streams it is kept four times a second as a whole, and from 2 KB on PostgreSQL
compresses it each time: with its own `pglz` that was two thirds of all it did. Where it was
built with LZ4 that takes its place; where it was not, long texts are stored as they are. Rows
that are there stay as they are until they are written again.
"""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"

CHEAPLY = """
do $$
begin
  alter table chat.messages
    alter column content set compression lz4, alter column parts set compression lz4;
exception when feature_not_supported then
  alter table chat.messages
    alter column content set storage external, alter column parts set storage external;
end
$$
"""
AS_BEFORE = """
alter table chat.messages
  alter column content set compression default, alter column content set storage extended,
  alter column parts set compression default, alter column parts set storage extended
"""


def upgrade() -> None:
    """Compress with LZ4 or not at all."""
    op.execute(CHEAPLY)


def downgrade() -> None:
    """Compress with what the database uses by default."""
    op.execute(AS_BEFORE)
