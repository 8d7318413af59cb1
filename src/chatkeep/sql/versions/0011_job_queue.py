"""The queue of work that must survive a restart, and how much mail went out in an hour.

The queue is procrastinate's, in a schema of its own. Its statements and functions have no
schema in their names, so each function is tied to this one, and whoever runs a statement
sets `search_path` for its transaction. Sign-in adds jobs and reads none; background work
does everything else.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from chatkeep.sql.closing import closed

revision = "0011"
down_revision = "0010"

_SCHEMA = Path(__file__).parent.parent / "procrastinate_3_10.sql"
_TABLES = ("jobs", "events", "workers", "periodic_defers")

HERE = """
create schema chatkeep_queue;
revoke all on schema chatkeep_queue from public;
set local search_path to chatkeep_queue;
"""

TIED = """
do $$
declare
  made record;
begin
  for made in
    select oid::regprocedure as name from pg_proc
    where pronamespace = 'chatkeep_queue'::regnamespace
  loop
    execute format('alter function %s set search_path = chatkeep_queue, pg_temp', made.name);
  end loop;
end
$$;
set local search_path to default;
"""

SENT = """
create table chatkeep.mail_hours (
  hour timestamptz primary key,
  sent integer not null
);
"""

RIGHTS = """
grant usage on schema chatkeep_queue to chatkeep_auth, chatkeep_worker;
grant usage on all sequences in schema chatkeep_queue to chatkeep_worker;
grant usage on sequence chatkeep_queue.procrastinate_jobs_id_seq,
  chatkeep_queue.procrastinate_events_id_seq to chatkeep_auth;

grant select, insert, update, delete on all tables in schema chatkeep_queue to chatkeep_worker;
create policy jobs_done on chatkeep_queue.procrastinate_jobs
  for all to chatkeep_worker using (true) with check (true);
create policy events_kept on chatkeep_queue.procrastinate_events
  for all to chatkeep_worker using (true) with check (true);
create policy workers_known on chatkeep_queue.procrastinate_workers
  for all to chatkeep_worker using (true) with check (true);
create policy periodic_defers_kept on chatkeep_queue.procrastinate_periodic_defers
  for all to chatkeep_worker using (true) with check (true);

-- A trigger notes each new job as an event, with the rights of whoever added it.
grant insert on chatkeep_queue.procrastinate_jobs, chatkeep_queue.procrastinate_events
  to chatkeep_auth;
create policy jobs_added on chatkeep_queue.procrastinate_jobs
  for insert to chatkeep_auth with check (true);
create policy events_added on chatkeep_queue.procrastinate_events
  for insert to chatkeep_auth with check (true);

create policy mail_hours_keep on chatkeep.mail_hours
  for all to chatkeep_worker using (true) with check (true);
grant select, insert, update, delete on chatkeep.mail_hours to chatkeep_worker;
"""


def upgrade() -> None:
    """Make the queue; a server of an older version does not know of it."""
    tables = [f"chatkeep_queue.procrastinate_{name}" for name in _TABLES]
    schema = _SCHEMA.read_text(encoding="utf-8")
    for part in (HERE, schema, TIED, SENT, closed(*tables, "chatkeep.mail_hours"), RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Drop the queue and what waits in it."""
    op.execute("drop schema chatkeep_queue cascade")
    op.execute("drop table chatkeep.mail_hours")
