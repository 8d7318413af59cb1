"""Sign-in with other providers: whose word an identity is, flows under way, tokens once shown."""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0009"
down_revision = "0008"

IDENTITIES = """
-- Who says so: the issuer's own name, which stays when a provider is called otherwise here.
-- Without one it is an address of ours, or was brought along from another server.
alter table chatkeep.identities add column issuer text;
create unique index identities_issuer on chatkeep.identities (issuer, provider_id)
  where issuer is not null;
create unique index identities_own on chatkeep.identities (provider, provider_id)
  where issuer is null;
alter table chatkeep.identities drop constraint identities_provider;
"""

FLOWS = """
-- Nothing here can be used: what goes through browsers is kept as hashes.
create table chatkeep.sign_in_flows (
  state_hash bytea primary key,
  provider text not null,
  redirect_to text not null,
  code_challenge text,
  code_challenge_method text,
  linking_user uuid references chatkeep.users (id) on delete cascade,
  linking_session uuid,
  browser_hash bytea,
  used_at timestamptz,
  expires_at timestamptz not null
);
create index sign_in_flows_expiry on chatkeep.sign_in_flows (expires_at);
create index sign_in_flows_linking on chatkeep.sign_in_flows (linking_user)
  where linking_user is not null;

create table chatkeep.shown_id_tokens (
  token_hash bytea primary key,
  expires_at timestamptz not null
);
create index shown_id_tokens_expiry on chatkeep.shown_id_tokens (expires_at);
"""

RIGHTS = """
create policy sign_in_flows_sign_in on chatkeep.sign_in_flows
  for all to chatkeep_auth using (true) with check (true);
create policy shown_id_tokens_sign_in on chatkeep.shown_id_tokens
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update, delete on chatkeep.sign_in_flows, chatkeep.shown_id_tokens
  to chatkeep_auth;
"""


def upgrade() -> None:
    """Make the tables; an older version beside it goes on writing identities as it did."""
    new_tables = closed("chatkeep.sign_in_flows", "chatkeep.shown_id_tokens")
    for part in (IDENTITIES, FLOWS, new_tables, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: going back would forget whose word each identity is."""
    raise RuntimeError("restore a backup instead: going back would mix up identities")
