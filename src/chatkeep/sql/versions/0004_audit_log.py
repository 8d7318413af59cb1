"""The audit log: entries that are added and never changed."""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0004"
down_revision = "0003"

TABLE = """
create table chatkeep.audit_log (
  number bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  action text not null,
  outcome text not null check (outcome in ('succeeded', 'refused')),
  reason text,
  user_id text,
  actor text,
  issuer text,
  session_id text,
  request_id text,
  address inet,
  device text,
  details jsonb not null default '{}'
);
create index audit_log_of_user on chatkeep.audit_log (user_id, number desc);
"""

RIGHTS = """
create policy audit_log_add on chatkeep.audit_log
  for insert to chatkeep_auth with check (true);
create policy audit_log_number on chatkeep.audit_log
  for select to chatkeep_auth using (true);
create policy audit_log_read on chatkeep.audit_log
  for select to chatkeep_admin using (true);
grant insert, select (number) on chatkeep.audit_log to chatkeep_auth;
grant select on chatkeep.audit_log to chatkeep_admin;
"""


def upgrade() -> None:
    """Make the log."""
    for part in (TABLE, closed("chatkeep.audit_log"), RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: a log that can be dropped is none."""
    raise RuntimeError("restore a backup instead: going back would drop the audit log")
