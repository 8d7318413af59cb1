"""What a session is bound to: a key, a network or a kind of device; null is nothing."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column; servers of the version before leave it alone."""
    op.execute("alter table public.user_sessions add column if not exists bound_to text")


def downgrade() -> None:
    """Refuse: a token that was bound would be anybody's."""
    raise RuntimeError("restore a backup instead: going back would free what was bound")
