"""What hundreds of answers say is kept with one statement for many of them.

Kept one by one, each as the person it belongs to, most of what a checkpoint took was to
become that person and to begin two updates: five parts of six of the server's work, and half
of PostgreSQL's. Background work hands over what many answers say to one function instead. Its
role, `chatkeep_keeper`, is nobody's, and reads nothing of what was said.
"""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision = "0029"

ROLE = """
do $$
begin
  if not exists (select from pg_roles where rolname = 'chatkeep_keeper') then
    begin
      create role chatkeep_keeper nologin noinherit;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  -- To hand it the function, whoever migrates is a member of it meanwhile.
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant chatkeep_keeper to %I', current_user);
  end if;
end
$$;
grant usage, create on schema chat to chatkeep_keeper;
"""

RIGHTS = """
create policy runs_to_keep on chat.runs for all to chatkeep_keeper
  using (state in ('queued', 'running', 'interrupted')) with check (true);
create policy messages_to_keep on chat.messages for all to chatkeep_keeper
  using (role = 'assistant') with check (true);
grant select (user_id, id, conversation_id, message_id, state, stop_requested, said_before),
  update (lease_until, said) on chat.runs to chatkeep_keeper;
grant select (user_id, conversation_id, id, run_id), update (content, parts)
  on chat.messages to chatkeep_keeper;
"""

KEPT = """
set local role chatkeep_keeper;

-- Keeps what each of *given* has said, and renews its lease by *lease* seconds; returns for
-- each that is there, by its number *n*, whether it must stop. What it belongs to is named by
-- all of its keys, so nothing of one person's comes to another. The message is written only
-- by who holds the run's row: what the database was given late is never written over the end,
-- nor over what another run has said since.
-- Each row is looked up by its key, whatever the statistics say of a new database: a range of
-- *n* is taken for one row of those given, and to look through an index for dear.
create function chat.keep_answers(given json, lease double precision)
returns table (n integer, stop_requested boolean, told text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
set cpu_index_tuple_cost = 1 as $$
begin
  return query
  with said as materialized (
    select * from json_to_recordset(given) as one (
      n integer, user_id text, conversation_id text, message_id text, run_id text,
      content text, parts jsonb, tells boolean
    ) where one.n between 0 and 999
  ), run as (
    update chat.runs r set lease_until = now() + make_interval(secs => lease),
      said = greatest(0, octet_length(coalesce(s.parts::text, s.content)) - r.said_before)
    from said s
    where r.user_id = s.user_id and r.id = s.run_id
      and r.conversation_id = s.conversation_id and r.message_id = s.message_id
      and r.state in ('queued', 'running', 'interrupted')
    returning s.n, r.stop_requested, r.user_id, r.conversation_id, r.message_id, r.id,
      s.content, s.parts, s.tells
  ), kept as (
    update chat.messages m set content = run.content, parts = run.parts
    from run
    where m.user_id = run.user_id and m.conversation_id = run.conversation_id
      and m.id = run.message_id and m.run_id = run.id
  )
  select run.n, run.stop_requested,
    case when run.tells then pg_notify('chatkeep_tails', run.id)::text end
  from run;
end
$$;
revoke all on function chat.keep_answers(json, double precision) from public;
grant execute on function chat.keep_answers(json, double precision) to chatkeep_worker;

reset role;
"""

ALONE = """
revoke create on schema chat from chatkeep_keeper;
do $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('revoke chatkeep_keeper from %I', current_user);
  end if;
end
$$;
"""


def upgrade() -> None:
    """Make the role and its function; servers of the version before keep answers as before."""
    for part in (ROLE, RIGHTS, KEPT, ALONE):
        op.execute(part)


def downgrade() -> None:
    """Take both away; the role itself may be used by another database of the server."""
    op.execute("drop function chat.keep_answers")
    op.execute("drop policy runs_to_keep on chat.runs")
    op.execute("drop policy messages_to_keep on chat.messages")
    op.execute("revoke all on chat.runs, chat.messages from chatkeep_keeper")
    op.execute("revoke all on schema chat from chatkeep_keeper")
