"""Who signs out at the provider where they signed in is out here (Back-Channel Logout).

Everything of a person at one issuer can end, or only what names no session there. Of a session
that another issuer began it is kept when that issuer issued the first token seen of it, by its
own clock, and whether its name is a session's or just that token's. Of a session of ours that
began at a provider it is kept who that was, and what the provider calls the session.

Null, as in all rows from before, means unknown, and counts as what has to end.
"""

from __future__ import annotations

from alembic import op

revision = "0037"
down_revision = "0036"

KINDS = """
-- 'subject': *subject* is what *issuer* calls a person; all of their tokens that it issued before
-- *not_before* have ended. 'sessionless': of those, the ones that name no session.
alter table chatkeep.revocations
  drop constraint revocations_kind_check,
  drop constraint revocations_not_before;
alter table chatkeep.revocations
  add constraint revocations_kind_check check
    (kind in ('session', 'token', 'user', 'issuer', 'subject', 'sessionless')) not valid;
alter table chatkeep.revocations
  add constraint revocations_not_before check
    ((kind not in ('session', 'token')) = (not_before is not null)) not valid;
"""

COLUMNS = """
alter table public.user_sessions
  add column if not exists issued_at timestamptz,
  add column if not exists names_session boolean,
  add column if not exists provider_issuer text,
  add column if not exists provider_subject text,
  add column if not exists provider_session text;
alter table chatkeep.authorization_codes
  add column provider_issuer text,
  add column provider_subject text,
  add column provider_session text,
  add column provider_issued_at timestamptz;
"""

FUNCTION = """
-- Until when a token of this session could be shown. Of ours: as long as it was to live, and
-- never less than the longest life of an access token.
create or replace function chatkeep.session_ended() returns trigger language plpgsql as $$
begin
  perform chatkeep.revoke('session', old.issuer, coalesce(old.reference, old.id::text), null,
    case when old.issuer = 'embedded'
      then greatest(least(old.expires_at, now() + interval '400 days'), now() + interval '1 day')
      when new.reason in ('logout', 'replaced', 'signed_out_elsewhere')
      then now() + interval '30 days'
      else now() + interval '400 days' end);
  return null;
end
$$;
"""


def upgrade() -> None:
    """Add what older servers leave alone; they pass over the new kinds, which end nothing there."""
    for part in (KINDS, COLUMNS, FUNCTION):
        op.execute(part)


def downgrade() -> None:
    """Refuse: who has signed out would be back."""
    raise RuntimeError("restore a backup instead: going back would forget who signed out")
