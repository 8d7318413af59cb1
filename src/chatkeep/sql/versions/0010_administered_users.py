"""When a person was invited, and when an administrator deleted them but kept their row."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"

COLUMNS = """
alter table chatkeep.users
  add column invited_at timestamptz,
  add column deleted_at timestamptz;
create index users_created on chatkeep.users (created_at, id);
"""


def upgrade() -> None:
    """Add the columns, and what pages through all people."""
    op.execute(COLUMNS)


def downgrade() -> None:
    """Take them away."""
    op.execute("drop index chatkeep.users_created")
    op.execute("alter table chatkeep.users drop column invited_at, drop column deleted_at")
