"""Roles, conversations, runs, profiles, and the embedded issuer's tables.

Every key of user data leads with `user_id`, because foreign keys bypass row-level
security: only a composite key makes it impossible to hang a row under another person's.
A `user_id` of '' belongs to nobody (adopted rows whose owner is unknown): no caller has
that id, so no policy shows them. Chat tables of another application are made into these in
place (`chatkeep.sql.adoption`), therefore columns come first and keys after them.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql import adoption

revision = "0001"
down_revision = None

ROLES = """
do $$
declare
  wanted text;
begin
  foreach wanted in array
    array['chatkeep_app', 'chatkeep_auth', 'chatkeep_worker', 'chatkeep_admin', 'authenticated']
  loop
    if not exists (select from pg_roles where rolname = wanted) then
      begin
        execute format('create role %I nologin noinherit', wanted);
      exception when duplicate_object or unique_violation then
        -- Roles belong to the whole server: another of its databases was quicker.
        null;
      end;
    end if;
  end loop;
end
$$;

create schema if not exists chatkeep;
create schema if not exists chat;
revoke all on schema chatkeep from public;
revoke create on schema chat from public;
grant usage on schema chat to chatkeep_app, chatkeep_worker, authenticated;
grant usage on schema chatkeep to chatkeep_app, chatkeep_auth, chatkeep_worker, chatkeep_admin;

-- Who the row-level policies compare with: the caller that Chatkeep set for this
-- transaction, else the subject that Supabase's data API set. Wrapped in a scalar
-- sub-select by every policy, so that it is evaluated once a statement.
create or replace function chat.caller_id() returns text language sql stable parallel safe
  return coalesce(
    nullif(current_setting('chatkeep.user_id', true), ''),
    nullif(nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub', '')
  );
grant execute on function chat.caller_id() to public;
"""

COLUMNS = """
create table if not exists chat.conversations ();
alter table chat.conversations
  add column if not exists user_id text,
  add column if not exists id text,
  add column if not exists title text,
  add column if not exists head_id text,
  add column if not exists created_at timestamptz,
  add column if not exists updated_at timestamptz,
  add column if not exists deleted_at timestamptz;

create table if not exists chat.messages ();
alter table chat.messages
  add column if not exists user_id text,
  add column if not exists conversation_id text,
  add column if not exists id text,
  add column if not exists parent_id text,
  add column if not exists role text,
  add column if not exists content text,
  add column if not exists parts jsonb,
  add column if not exists client_id text,
  add column if not exists run_id text,
  add column if not exists created_at timestamptz;
"""

KEYS = """
alter table chat.conversations
  alter column created_at set default now(), alter column created_at set not null,
  alter column updated_at set default now(), alter column updated_at set not null,
  add constraint conversations_pkey primary key (user_id, id);
-- An id that cannot be guessed means one conversation in the world, so that a stranger's
-- write to it can be refused; a short id is a name that each person may use.
create unique index conversations_unguessable_id
  on chat.conversations (id) where length(id) >= 16;
create index conversations_newest
  on chat.conversations (user_id, updated_at desc, id desc) where deleted_at is null;
create index conversations_deleted
  on chat.conversations (deleted_at) where deleted_at is not null;

alter table chat.messages
  alter column role set not null,
  alter column content set default '', alter column content set not null,
  alter column created_at set default now(), alter column created_at set not null,
  add constraint messages_pkey primary key (user_id, conversation_id, id),
  add constraint messages_role_check check (role in ('system', 'user', 'assistant')),
  add constraint messages_conversation foreign key (user_id, conversation_id)
    references chat.conversations (user_id, id) on update cascade on delete cascade,
  add constraint messages_parent foreign key (user_id, conversation_id, parent_id)
    references chat.messages (user_id, conversation_id, id) on update cascade on delete cascade;
create index messages_siblings on chat.messages (user_id, conversation_id, parent_id);
"""

RUNS = """
create table chat.runs (
  user_id text not null,
  id text not null,
  conversation_id text not null,
  message_id text not null,
  request_key text,
  state text not null check
    (state in ('queued', 'running', 'done', 'stopped', 'failed', 'interrupted')),
  model text not null,
  lease_until timestamptz not null,
  stop_requested boolean not null default false,
  finish_reason text,
  error_code text,
  prompt_tokens integer,
  completion_tokens integer,
  cost numeric,
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  primary key (user_id, id),
  constraint runs_request_key unique (user_id, request_key),
  constraint runs_message foreign key (user_id, conversation_id, message_id)
    references chat.messages (user_id, conversation_id, id) on update cascade on delete cascade
);
-- One answer at a time in a conversation; also what the sweeper scans, so it is small.
create unique index runs_one_at_a_time
  on chat.runs (user_id, conversation_id) where state in ('queued', 'running');
create index runs_of_message on chat.runs (user_id, conversation_id, message_id);
"""

CONVERSATION_RIGHTS = """
alter table chat.conversations enable row level security;
alter table chat.conversations force row level security;
create policy conversations_of_caller on chat.conversations
  for all to chatkeep_app, authenticated
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
create policy conversations_to_purge on chat.conversations
  for all to chatkeep_worker using (deleted_at is not null) with check (false);
grant select, insert, update, delete on chat.conversations to chatkeep_app;
grant select (deleted_at), delete on chat.conversations to chatkeep_worker;

alter table chat.messages enable row level security;
alter table chat.messages force row level security;
create policy messages_of_caller on chat.messages
  for all to chatkeep_app, authenticated
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update on chat.messages to chatkeep_app;

alter table chat.runs enable row level security;
alter table chat.runs force row level security;
create policy runs_of_caller on chat.runs
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
create policy runs_to_sweep on chat.runs
  for all to chatkeep_worker using (true) with check (state = 'interrupted');
grant select, insert, update on chat.runs to chatkeep_app;
grant select (user_id, id, conversation_id, state, lease_until),
  update (state, ended_at, error_code)
  on chat.runs to chatkeep_worker;
"""

PROFILES = """
create table chat.profiles (
  id text primary key,
  temperature double precision check (temperature between 0 and 2),
  top_p double precision check (top_p > 0 and top_p <= 1),
  max_tokens integer check (max_tokens >= 1),
  system_prompt text,
  default_model text,
  custom_instructions text,
  display_name text,
  theme text check (theme in ('system', 'light', 'dark')),
  locale text,
  version integer not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
alter table chat.profiles enable row level security;
alter table chat.profiles force row level security;
create policy profiles_read on chat.profiles
  for select to chatkeep_app, authenticated using (id = (select chat.caller_id()));
create policy profiles_create on chat.profiles
  for insert to chatkeep_app, authenticated with check (id = (select chat.caller_id()));
create policy profiles_change on chat.profiles
  for update to chatkeep_app, authenticated
  using (id = (select chat.caller_id())) with check (id = (select chat.caller_id()));
grant select, insert, update on chat.profiles to chatkeep_app;

-- Whoever changes a profile, through us or through Supabase's data API: its version rises
-- and every node that has it cached is told.
create function chat.profile_changed() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' then
    new.version := old.version + 1;
    new.updated_at := now();
  end if;
  perform pg_notify('chatkeep_profiles', new.id);
  return new;
end
$$;
create trigger profile_changed before insert or update on chat.profiles
  for each row execute function chat.profile_changed();
"""

ISSUER = """
create table chatkeep.issuers (
  name text primary key,
  id_prefix text not null unique
);
alter table chatkeep.issuers enable row level security;
alter table chatkeep.issuers force row level security;
create policy issuers_known on chatkeep.issuers
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update on chatkeep.issuers to chatkeep_auth;

create table chatkeep.users (
  id uuid primary key,
  email text,
  password_hash text,
  email_confirmed_at timestamptz,
  user_metadata jsonb not null default '{}',
  app_metadata jsonb not null default '{}',
  role text not null default 'authenticated',
  aud text not null default 'authenticated',
  is_anonymous boolean not null default false,
  banned_until timestamptz,
  last_sign_in_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
-- Addresses are compared in lower case; what the person typed is not kept.
create unique index users_email on chatkeep.users (email);
alter table chatkeep.users enable row level security;
alter table chatkeep.users force row level security;
create policy users_sign_in on chatkeep.users
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update, delete on chatkeep.users to chatkeep_auth;

create table chatkeep.identities (
  user_id uuid not null references chatkeep.users (id) on delete cascade,
  id uuid not null,
  provider text not null,
  provider_id text not null,
  identity_data jsonb not null default '{}',
  last_sign_in_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (user_id, id),
  constraint identities_provider unique (provider, provider_id)
);
alter table chatkeep.identities enable row level security;
alter table chatkeep.identities force row level security;
create policy identities_sign_in on chatkeep.identities
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update, delete on chatkeep.identities to chatkeep_auth;

create table chatkeep.signing_keys (
  kid text primary key,
  algorithm text not null,
  public_jwk jsonb not null,
  private_key bytea not null,
  status text not null check (status in ('standby', 'current', 'previous', 'revoked')),
  created_at timestamptz not null default now()
);
create unique index signing_keys_one_current on chatkeep.signing_keys (status)
  where status = 'current';
alter table chatkeep.signing_keys enable row level security;
alter table chatkeep.signing_keys force row level security;
create policy signing_keys_use on chatkeep.signing_keys
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update on chatkeep.signing_keys to chatkeep_auth;
"""

SESSIONS = """
-- One row a signed-in device. The refresh token family is the session: the row keeps the
-- counter of the newest token and nothing that could be used; `session_token` is the hash
-- of a cookie session's token and empty for the others.
create table public.user_sessions (
  user_id text not null,
  id uuid not null,
  issuer text not null default 'embedded',
  session_token text,
  refresh_counter bigint not null default 0,
  refreshed_at timestamptz,
  aal text not null default 'aal1',
  amr jsonb not null default '[]',
  device text,
  address inet,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  last_activity_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  reason text,
  primary key (user_id, id)
);
create unique index user_sessions_id on public.user_sessions (id);
create unique index user_sessions_token on public.user_sessions (session_token)
  where session_token is not null;
-- What every node looks through each second for sessions whose end it was not told.
create index user_sessions_revoked on public.user_sessions (revoked_at)
  where revoked_at is not null;
alter table public.user_sessions enable row level security;
alter table public.user_sessions force row level security;
create policy user_sessions_sign_in on public.user_sessions
  for all to chatkeep_auth using (true) with check (true);
create policy user_sessions_of_caller on public.user_sessions
  for select to chatkeep_app using (user_id = (select chat.caller_id()));
grant select, insert, update, delete on public.user_sessions to chatkeep_auth;
grant select on public.user_sessions to chatkeep_app;

-- An operator who types `update user_sessions set is_active = false` ends those sessions as
-- surely as the command does: every node is told at commit.
create function chatkeep.session_changed() returns trigger language plpgsql as $$
begin
  if not new.is_active and new.revoked_at is null then
    new.revoked_at := now();
  end if;
  if old.is_active and not new.is_active then
    perform pg_notify('chatkeep_sessions', new.id::text);
  end if;
  return new;
end
$$;
create trigger session_changed before update on public.user_sessions
  for each row execute function chatkeep.session_changed();
"""


NOBODY_ELSE = """
-- The administrator must read the revision, row-level security forced or not.
alter table chatkeep.alembic_version enable row level security;
alter table chatkeep.alembic_version force row level security;
create policy alembic_version_of_owner on chatkeep.alembic_version
  for all to current_user using (true) with check (true);
-- A server that may not migrate sees that somebody has.
create policy alembic_version_of_server on chatkeep.alembic_version
  for select to chatkeep_app using (true);
grant select on chatkeep.alembic_version to chatkeep_app;

-- An adopted table was opened to somebody, or the schema opens every new table to somebody
-- (Supabase does that for `public`): row-level security does not govern truncate.
do $$
declare
  one record;
begin
  for one in
    select distinct c.oid::regclass as tbl, a.grantee
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
      select grantee from aclexplode(c.relacl)
      union select x.grantee from pg_attribute t, aclexplode(t.attacl) x where t.attrelid = c.oid
    ) a
    where c.relkind = 'r' and a.grantee <> c.relowner
      and (n.nspname = 'chatkeep' or (n.nspname, c.relname) in (('chat', 'conversations'),
        ('chat', 'messages'), ('chat', 'runs'), ('chat', 'profiles'), ('public', 'user_sessions')))
      and a.grantee not in (select oid from pg_roles where rolname in
        ('chatkeep_app', 'chatkeep_auth', 'chatkeep_worker', 'chatkeep_admin'))
  loop
    execute format('revoke all on %s from %s cascade', one.tbl,
      case one.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(one.grantee)) end);
  end loop;
end
$$;
grant select on chat.conversations, chat.messages to authenticated;
grant select, insert, update on chat.profiles to authenticated;
"""


def upgrade() -> None:
    """Make everything; each part is safe beside a running older version."""
    before = (ROLES, adoption.OPEN, COLUMNS, adoption.FILL, KEYS, adoption.CLOSE)
    rights = (RUNS, CONVERSATION_RIGHTS, PROFILES, ISSUER, SESSIONS, NOBODY_ELSE)
    for part in (*before, *rights):
        op.execute(part)


def downgrade() -> None:
    """Refuse: going back would drop people's conversations."""
    raise RuntimeError("restore a backup instead: going back would drop conversations")
