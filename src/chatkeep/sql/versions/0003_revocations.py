"""What has ended, numbered so that no node can miss any of it.

Numbers are taken from one row under its lock, at the very end of the transaction: so they
become visible in their own order (a sequence's do not), and whoever has seen number N has
seen every smaller one. Because that happens in a deferred trigger, an operator who leaves a
transaction open keeps nobody from logging out.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0003"
down_revision = "0002"

TABLES = """
create table chatkeep.revocation_numbers (
  singleton boolean primary key default true check (singleton),
  newest bigint not null
);
insert into chatkeep.revocation_numbers (newest) values (0);

-- kind 'session' and 'token': *subject* is what the issuer calls it. 'user': *subject* is our
-- id of a person, *issuer* is ''. 'issuer': *subject* is ''. For the last two, what was
-- issued before *not_before* has ended. A row can go after *until*: nothing it ends lives on.
create table chatkeep.revocations (
  number bigint primary key,
  kind text not null check (kind in ('session', 'token', 'user', 'issuer')),
  issuer text not null,
  subject text not null,
  not_before timestamptz,
  until timestamptz not null,
  revoked_at timestamptz not null default now(),
  constraint revocations_once unique (kind, issuer, subject),
  constraint revocations_not_before check ((kind in ('user', 'issuer')) = (not_before is not null))
);
create index revocations_until on chatkeep.revocations (until);

alter table public.user_sessions add column if not exists reference text;
create unique index user_sessions_reference on public.user_sessions (issuer, reference)
  where reference is not null;
"""

FUNCTIONS = """
create function chatkeep.revoke(
  kind text, issuer text, subject text, not_before timestamptz, until timestamptz
) returns void language plpgsql as $$
#variable_conflict use_column
declare
  taken bigint;
begin
  update chatkeep.revocation_numbers set newest = newest + 1 returning newest into taken;
  insert into chatkeep.revocations (number, kind, issuer, subject, not_before, until)
  values (taken, revoke.kind, revoke.issuer, revoke.subject, revoke.not_before, revoke.until)
  on conflict on constraint revocations_once do update set
    number = excluded.number, until = greatest(revocations.until, excluded.until),
    not_before = greatest(revocations.not_before, excluded.not_before);
  perform pg_notify('chatkeep_revocations', taken::text);
end
$$;

-- Until when a token of this session could be shown: as long as it was to live, and never
-- less than the longest life of an access token.
create function chatkeep.session_ended() returns trigger language plpgsql as $$
begin
  perform chatkeep.revoke('session', old.issuer, coalesce(old.reference, old.id::text), null,
    greatest(least(old.expires_at, now() + interval '400 days'), now() + interval '1 day'));
  return null;
end
$$;
create constraint trigger session_ended after update on public.user_sessions
  deferrable initially deferred for each row
  when (old.is_active and not new.is_active) execute function chatkeep.session_ended();
create constraint trigger session_deleted after delete on public.user_sessions
  deferrable initially deferred for each row
  when (old.is_active) execute function chatkeep.session_ended();

-- Servers of the version before this look each second at `revoked_at`, which stays.
create or replace function chatkeep.session_changed() returns trigger language plpgsql as $$
begin
  if not new.is_active and new.revoked_at is null then
    new.revoked_at := now();
  end if;
  return new;
end
$$;
"""

RIGHTS = """
create policy revocation_numbers_take on chatkeep.revocation_numbers
  for all to chatkeep_auth using (true) with check (true);
create policy revocations_keep on chatkeep.revocations
  for all to chatkeep_auth using (true) with check (true);
grant select, update on chatkeep.revocation_numbers to chatkeep_auth;
grant select, insert, update, delete on chatkeep.revocations to chatkeep_auth;
"""

# What ended before, while somebody may still hold a token of it.
FILL = """
-- The administrator must read the sessions, row-level security forced or not.
alter table public.user_sessions no force row level security;
with ended as (
  select row_number() over (order by revoked_at, id) as number, issuer, id, revoked_at, expires_at
  from public.user_sessions
  where not is_active and (expires_at > now() or revoked_at > now() - interval '1 day')
), filled as (
  insert into chatkeep.revocations (number, kind, issuer, subject, until, revoked_at)
  select number, 'session', issuer, id::text,
    greatest(least(expires_at, now() + interval '400 days'), now() + interval '1 day'),
    least(revoked_at, now())
  from ended returning number
)
update chatkeep.revocation_numbers set newest = (select coalesce(max(number), 0) from filled);
alter table public.user_sessions force row level security;
"""


def upgrade() -> None:
    """Make the tables, fill them, and let the end of a session be written there."""
    new = closed("chatkeep.revocation_numbers", "chatkeep.revocations")
    for part in (TABLES, FUNCTIONS, FILL, new, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: who had been logged out would be back."""
    raise RuntimeError("restore a backup instead: going back would forget who was logged out")
