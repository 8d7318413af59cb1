"""The chain over the audit log: what makes a change, a gap or another order show.

An entry is written by whatever request it belongs to, and linked a little later, by one
server at a time: `audit_links` says in which order, and holds a keyed digest over the entry
and the link before it. `audit_head` is the end of the chain, and its beginning once old
entries were let go.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0005"
down_revision = "0004"

TABLES = """
create table chatkeep.audit_links (
  position bigint primary key,
  number bigint not null unique,
  mac bytea not null
);
create table chatkeep.audit_head (
  singleton boolean primary key default true check (singleton),
  chain_key bytea,
  position bigint not null default 0,
  mac bytea not null default '',
  start_position bigint not null default 0,
  start_mac bytea not null default '',
  seal bytea not null default '',
  settled bigint not null default 0,
  sealed_at timestamptz
);
insert into chatkeep.audit_head default values;
create index audit_log_at on chatkeep.audit_log (at);
"""

# The number and the time of an entry are the database's. What may go is at least 30 days
# old, whatever a setting says.
RIGHTS = """
revoke insert on chatkeep.audit_log from chatkeep_auth;
grant insert (action, outcome, reason, user_id, actor, issuer, session_id, request_id, address,
  device, details) on chatkeep.audit_log to chatkeep_auth;
create policy audit_log_let_go on chatkeep.audit_log
  for delete to chatkeep_admin using (at < now() - interval '30 days');
grant delete on chatkeep.audit_log to chatkeep_admin;
create policy audit_links_read on chatkeep.audit_links
  for select to chatkeep_admin using (true);
create policy audit_links_add on chatkeep.audit_links
  for insert to chatkeep_admin with check (true);
create policy audit_links_let_go on chatkeep.audit_links
  for delete to chatkeep_admin using (
    position <= (select start_position from chatkeep.audit_head));
grant select, insert, delete on chatkeep.audit_links to chatkeep_admin;
create policy audit_head_read on chatkeep.audit_head
  for select to chatkeep_admin using (true);
create policy audit_head_move on chatkeep.audit_head
  for update to chatkeep_admin using (true) with check (true);
grant select, update on chatkeep.audit_head to chatkeep_admin;
"""


def upgrade() -> None:
    """Make the chain, still empty."""
    for part in (TABLES, closed("chatkeep.audit_links", "chatkeep.audit_head"), RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: without the chain nobody could tell what was changed."""
    raise RuntimeError("restore a backup instead: going back would drop the chain of the audit log")
