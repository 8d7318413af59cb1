"""How many session tokens of old shapes still come, per hour, version and claim.

Written by every server as the role of background work, read by the administrator's.
Nothing in it is about a person.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0002"
down_revision = "0001"

TABLE = """
create table chatkeep.claim_counts (
  hour timestamptz not null,
  version integer not null,
  claim text not null,
  tokens bigint not null default 0,
  reads bigint not null default 0,
  issued bigint not null default 0,
  newest_issued_at timestamptz,
  primary key (hour, version, claim)
);
"""

RIGHTS = """
create policy claim_counts_keep on chatkeep.claim_counts
  for all to chatkeep_worker using (true) with check (true);
create policy claim_counts_read on chatkeep.claim_counts
  for select to chatkeep_admin using (true);
grant select, insert, update, delete on chatkeep.claim_counts to chatkeep_worker;
grant select on chatkeep.claim_counts to chatkeep_admin;
"""


def upgrade() -> None:
    """Make the table; a server of an older version does not know of it."""
    for part in (TABLE, closed("chatkeep.claim_counts"), RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Drop the counts."""
    op.execute("drop table chatkeep.claim_counts")
