"""When a server last named a receiver of webhooks: it ends when none has for a day.

Until then what happens is queued for it, also while the server that tells it is being
replaced by one that does not name it.
"""

from __future__ import annotations

from alembic import op

revision = "0039"
down_revision = "0038"

LISTENED = """
alter table chatkeep.webhooks
  add column listened_at timestamptz not null default now();
"""


def upgrade() -> None:
    """Begin the day of those that are there now."""
    op.execute(LISTENED)


def downgrade() -> None:
    """Forget when."""
    op.execute("alter table chatkeep.webhooks drop column listened_at")
