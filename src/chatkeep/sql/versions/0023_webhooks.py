"""Webhooks: what an application is told of, queued in the transaction in which it happens.

Triggers queue it, so that whatever changes a row tells of it, an operator's own statement
too, and what is rolled back was never said. They run as the role `chatkeep_webhooks`, which
is nobody's, adds jobs and reads nothing but who wants to hear of what. What is queued holds
ids and no text; the text is looked up as its owner when it is sent.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0023"
down_revision = "0022"

ROLE = """
do $$
begin
  if not exists (select from pg_roles where rolname = 'chatkeep_webhooks') then
    begin
      create role chatkeep_webhooks nologin noinherit;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  -- To hand it the function, whoever migrates is a member of it meanwhile.
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant chatkeep_webhooks to %I', current_user);
  end if;
end
$$;
grant usage, create on schema chatkeep to chatkeep_webhooks;
grant usage on schema chatkeep_queue to chatkeep_webhooks;
"""

TABLES = """
-- Who is told of what; the servers write here what their settings say.
create table chatkeep.webhooks (
  name text primary key,
  events text[] not null
);
-- What could not be told in all the time that there was for it.
create table chatkeep.dead_webhooks (
  id text not null,
  name text not null,
  event text not null,
  content text not null,
  attempts integer not null,
  reason text not null,
  died_at timestamptz not null default now(),
  primary key (name, id)
);
"""

RIGHTS = """
create policy webhooks_known on chatkeep.webhooks
  for all to chatkeep_worker using (true) with check (true);
create policy webhooks_asked on chatkeep.webhooks
  for select to chatkeep_webhooks using (true);
create policy dead_webhooks_kept on chatkeep.dead_webhooks
  for all to chatkeep_worker using (true) with check (true);
grant usage on schema chatkeep to chatkeep_worker;
grant select, insert, update, delete on chatkeep.webhooks to chatkeep_worker;
grant select, insert, update, delete on chatkeep.dead_webhooks to chatkeep_worker;
grant select on chatkeep.webhooks to chatkeep_webhooks;
create policy jobs_told on chatkeep_queue.procrastinate_jobs
  for insert to chatkeep_webhooks with check (task_name = 'send_webhook');
create policy events_told on chatkeep_queue.procrastinate_events
  for insert to chatkeep_webhooks with check (true);
grant insert on chatkeep_queue.procrastinate_jobs, chatkeep_queue.procrastinate_events
  to chatkeep_webhooks;
grant usage on sequence chatkeep_queue.procrastinate_jobs_id_seq,
  chatkeep_queue.procrastinate_events_id_seq to chatkeep_webhooks;
"""

TOLD = """
set local role chatkeep_webhooks;

-- Called by triggers alone, with the row that their own statement has written.
create function chatkeep.tell_webhooks() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  event constant text := tg_argv[0];
  given jsonb;
  about jsonb;
begin
  if not exists (select from chatkeep.webhooks w where event = any (w.events)) then
    return null;
  end if;
  if tg_op = 'DELETE' then
    given := to_jsonb(old);
  else
    given := to_jsonb(new);
  end if;
  if tg_table_name = 'users' then
    about := jsonb_build_object('account', given -> 'id', 'is_anonymous', given -> 'is_anonymous');
  elsif tg_table_name = 'user_sessions' then
    about := jsonb_build_object('user_id', given -> 'user_id', 'session_id', given -> 'id',
      'issuer', given -> 'issuer', 'reason', given -> 'reason');
  elsif tg_table_name = 'conversations' then
    about := jsonb_build_object('user_id', given -> 'user_id', 'conversation_id', given -> 'id');
  else
    about := jsonb_build_object('user_id', given -> 'user_id',
      'conversation_id', given -> 'conversation_id', 'message_id', given -> 'message_id',
      'run_id', given -> 'id', 'state', given -> 'state', 'error_code', given -> 'error_code',
      'model', given -> 'model', 'prompt_tokens', given -> 'prompt_tokens',
      'completion_tokens', given -> 'completion_tokens', 'cost', given ->> 'cost');
  end if;
  insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, args)
  select 'webhook:' || w.name, 'send_webhook', jsonb_build_object('sealed', jsonb_build_object(
    'id', 'msg_' || replace(said.id::text, '-', ''), 'event', event,
    'at', extract(epoch from now())::float8, 'about', about)::text)
  from chatkeep.webhooks w, (select gen_random_uuid() as id offset 0) said
  where event = any (w.events);
  return null;
end
$$;
revoke all on function chatkeep.tell_webhooks() from public;

reset role;
"""

TRIGGERS = """
create trigger webhooks_user_created after insert on chatkeep.users
  for each row execute function chatkeep.tell_webhooks('user.created');
create trigger webhooks_user_deleted after delete on chatkeep.users
  for each row when (old.deleted_at is null)
  execute function chatkeep.tell_webhooks('user.deleted');
create trigger webhooks_user_put_away after update of deleted_at on chatkeep.users
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function chatkeep.tell_webhooks('user.deleted');
create trigger webhooks_session_ended after update on public.user_sessions
  for each row when (old.is_active and not new.is_active)
  execute function chatkeep.tell_webhooks('session.ended');
create trigger webhooks_conversation_created after insert on chat.conversations
  for each row execute function chatkeep.tell_webhooks('conversation.created');
create trigger webhooks_conversation_deleted after delete on chat.conversations
  for each row when (old.deleted_at is null)
  execute function chatkeep.tell_webhooks('conversation.deleted');
create trigger webhooks_conversation_put_away after update of deleted_at on chat.conversations
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function chatkeep.tell_webhooks('conversation.deleted');
create trigger webhooks_answer_finished after update of state on chat.runs
  for each row when (new.state not in ('queued', 'running') and new.state <> old.state)
  execute function chatkeep.tell_webhooks('answer.finished');
"""

ALONE = """
revoke create on schema chatkeep from chatkeep_webhooks;
do $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('revoke chatkeep_webhooks from %I', current_user);
  end if;
end
$$;
"""


def upgrade() -> None:
    """Make the role, the tables and what fills the queue; where nobody asks, nothing is queued."""
    new = closed("chatkeep.webhooks", "chatkeep.dead_webhooks")
    # A trigger must be allowed to call its function when it is made, by whoever makes it.
    for part in (ROLE, TABLES, new, RIGHTS, TOLD, TRIGGERS, ALONE):
        op.execute(part)


def downgrade() -> None:
    """Tell nobody any more."""
    op.execute("drop function chatkeep.tell_webhooks() cascade")
    op.execute("drop table chatkeep.webhooks, chatkeep.dead_webhooks")
    op.execute("drop policy jobs_told on chatkeep_queue.procrastinate_jobs")
    op.execute("drop policy events_told on chatkeep_queue.procrastinate_events")
    op.execute("revoke all on all tables in schema chatkeep_queue from chatkeep_webhooks")
    op.execute("revoke all on all sequences in schema chatkeep_queue from chatkeep_webhooks")
    op.execute("revoke all on schema chatkeep, chatkeep_queue from chatkeep_webhooks")
