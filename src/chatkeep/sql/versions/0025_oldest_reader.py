"""Which versions may serve on this database: the revision says what it is at, not for whom.

While servers are replaced one by one, and when a new version is taken back, an older one runs
on tables that a newer one has brought further. `chatkeep migrate` writes here how old it may be.
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Add the column; whoever migrates fills it."""
    op.execute("alter table chatkeep.alembic_version add column oldest_reader text")


def downgrade() -> None:
    """Forget it."""
    op.execute("alter table chatkeep.alembic_version drop column oldest_reader")
