"""What a run leaves to be gone on from, and how its tokens were counted in detail.

An answer that waits for the person may be more than its words tell: an agent that is run by a
library of its own writes down where it stands, and is given that back. It is of whom the run
is, and goes with it.
"""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"

COLUMNS = """
alter table chat.runs
  add column paused text,
  add column cached_tokens integer,
  add column reasoning_tokens integer;
"""


def upgrade() -> None:
    """Add the columns; servers of the version before leave them empty."""
    op.execute(COLUMNS)


def downgrade() -> None:
    """Forget them: what waits cannot be gone on from where it stood."""
    op.execute(
        "alter table chat.runs drop column paused, drop column cached_tokens,"
        " drop column reasoning_tokens"
    )
