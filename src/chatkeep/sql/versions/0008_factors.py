"""Second factors and passkeys: what a person proves themselves with beside a password."""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0008"
down_revision = "0007"

TABLES = """
-- *secret* is a TOTP key, sealed by the server; *last_step* the newest time step whose code
-- was taken, so that none is taken twice. *failures* are those since the last success.
create table chatkeep.factors (
  user_id uuid not null references chatkeep.users (id) on delete cascade,
  id uuid not null,
  factor_type text not null check (factor_type in ('totp', 'webauthn', 'recovery_code')),
  friendly_name text,
  status text not null default 'unverified' check (status in ('unverified', 'verified')),
  secret bytea,
  last_step bigint not null default 0,
  failures integer not null default 0,
  locked_until timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_challenged_at timestamptz,
  primary key (user_id, id)
);
create unique index factors_name on chatkeep.factors (user_id, friendly_name)
  where friendly_name is not null;
create unique index factors_one_set_of_recovery_codes on chatkeep.factors (user_id)
  where factor_type = 'recovery_code';

-- *challenge* is what an authenticator signs; a TOTP challenge has none. Without *factor_id*
-- it is for a new passkey.
create table chatkeep.factor_challenges (
  user_id uuid not null references chatkeep.users (id) on delete cascade,
  id uuid not null,
  factor_id uuid,
  challenge bytea,
  address inet,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  primary key (user_id, id),
  constraint factor_challenges_factor foreign key (user_id, factor_id)
    references chatkeep.factors (user_id, id) on delete cascade
);

-- Only a keyed hash of each code.
create table chatkeep.recovery_codes (
  user_id uuid not null,
  factor_id uuid not null,
  hash bytea not null,
  used_at timestamptz,
  primary key (user_id, hash),
  constraint recovery_codes_factor foreign key (user_id, factor_id)
    references chatkeep.factors (user_id, id) on delete cascade
);

-- Public keys of authenticators. One of a second factor names it; the others are passkeys,
-- with which one signs in alone.
create table chatkeep.webauthn_credentials (
  user_id uuid not null references chatkeep.users (id) on delete cascade,
  id uuid not null,
  factor_id uuid,
  credential_id bytea not null,
  public_key bytea not null,
  sign_count bigint not null default 0,
  transports text[] not null default '{}',
  friendly_name text,
  backed_up boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_used_at timestamptz,
  primary key (user_id, id),
  constraint webauthn_credentials_factor foreign key (user_id, factor_id)
    references chatkeep.factors (user_id, id) on delete cascade
);
create unique index webauthn_credentials_once
  on chatkeep.webauthn_credentials (credential_id);

-- Asked of whoever wants to sign in with a passkey: nobody knows yet who that is.
create table chatkeep.passkey_challenges (
  id uuid primary key,
  challenge bytea not null,
  expires_at timestamptz not null
);
create index passkey_challenges_expiry on chatkeep.passkey_challenges (expires_at);
"""

_NAMES = (
    "factors",
    "factor_challenges",
    "recovery_codes",
    "webauthn_credentials",
    "passkey_challenges",
)

RIGHTS = "".join(
    f"""
create policy {name}_prove on chatkeep.{name}
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update, delete on chatkeep.{name} to chatkeep_auth;
"""
    for name in _NAMES
)


def upgrade() -> None:
    """Make the tables, for sign-in alone."""
    new = closed(*(f"chatkeep.{name}" for name in _NAMES))
    for part in (TABLES, new, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: people would be let in with a password alone."""
    raise RuntimeError("restore a backup instead: going back would drop second factors")
