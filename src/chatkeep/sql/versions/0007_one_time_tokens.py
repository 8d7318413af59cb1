"""One-time tokens that go out by mail, codes of PKCE flows, and when a person was sent what."""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0007"
down_revision = "0006"

USERS = """
alter table chatkeep.users
  add column new_email text,
  add column confirmation_sent_at timestamptz,
  add column recovery_sent_at timestamptz,
  add column email_change_sent_at timestamptz,
  add column reauthentication_sent_at timestamptz;
"""

# One of a kind for each person: a new one makes the old one worthless.
TOKENS = """
create table chatkeep.one_time_tokens (
  user_id uuid not null references chatkeep.users (id) on delete cascade,
  kind text not null check (kind in ('signup', 'invite', 'magiclink', 'recovery',
    'email_change_current', 'email_change_new', 'reauthentication')),
  email text not null,
  link_hash bytea not null,
  code_hash bytea not null,
  tries integer not null default 0,
  code_challenge text,
  code_challenge_method text check (code_challenge_method in ('s256', 'plain')),
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  primary key (user_id, kind),
  constraint one_time_tokens_challenge
    check ((code_challenge is null) = (code_challenge_method is null))
);
create unique index one_time_tokens_link on chatkeep.one_time_tokens (link_hash);
create index one_time_tokens_address on chatkeep.one_time_tokens (email, kind);
create index one_time_tokens_expired on chatkeep.one_time_tokens (expires_at);

create table chatkeep.authorization_codes (
  user_id uuid not null references chatkeep.users (id) on delete cascade,
  code_hash bytea not null,
  proof text not null,
  code_challenge text not null,
  code_challenge_method text not null check (code_challenge_method in ('s256', 'plain')),
  provider_tokens bytea,
  expires_at timestamptz not null,
  primary key (user_id, code_hash)
);
create unique index authorization_codes_code on chatkeep.authorization_codes (code_hash);
create index authorization_codes_expired on chatkeep.authorization_codes (expires_at);
"""

RIGHTS = """
create policy one_time_tokens_use on chatkeep.one_time_tokens
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update, delete on chatkeep.one_time_tokens to chatkeep_auth;
create policy authorization_codes_use on chatkeep.authorization_codes
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update, delete on chatkeep.authorization_codes to chatkeep_auth;
"""


def upgrade() -> None:
    """Make the tables."""
    tables = closed("chatkeep.one_time_tokens", "chatkeep.authorization_codes")
    for part in (USERS, TOKENS, tables, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Take them away: who waits for a mail asks for another."""
    op.execute("drop table chatkeep.authorization_codes, chatkeep.one_time_tokens")
    op.execute(
        "alter table chatkeep.users drop column confirmation_sent_at,"
        " drop column recovery_sent_at, drop column email_change_sent_at,"
        " drop column reauthentication_sent_at, drop column new_email"
    )
