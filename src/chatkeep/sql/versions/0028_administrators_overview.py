"""How answers of the last two days ended and what they used, for administrators.

Only columns that count: not the conversation, not the message, and nothing that was said. The
index that the overview goes by is built beside the traffic, see `indexes.BESIDE`.
"""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"

RIGHTS = """
create policy runs_counted on chat.runs for select to chatkeep_admin
  using (started_at > now() - interval '2 days');
grant select (user_id, state, error_code, prompt_tokens, completion_tokens, cost, started_at)
  on chat.runs to chatkeep_admin;
"""


def upgrade() -> None:
    """Let the role of administration count them."""
    op.execute(RIGHTS)


def downgrade() -> None:
    """Let it count nothing."""
    op.execute("drop index if exists chat.runs_started")
    op.execute("revoke all on chat.runs from chatkeep_admin")
    op.execute("drop policy runs_counted on chat.runs")
