"""What other issuers began and somebody ended here stays ended.

Their issuers renew such a session for as long as they like, and do not know that it ended here:
its end was remembered for a day, as long as one of its tokens could live, and the next token
brought it back. Now it is for 400 days, as the end of a refresh token; and for 30 where somebody
logged out of the device in their hands, whose issuer is told, because those are many.
"""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"

FUNCTION = """
-- Until when a token of this session could be shown. Of ours: as long as it was to live, and
-- never less than the longest life of an access token.
create or replace function chatkeep.session_ended() returns trigger language plpgsql as $$
begin
  perform chatkeep.revoke('session', old.issuer, coalesce(old.reference, old.id::text), null,
    case when old.issuer = 'embedded'
      then greatest(least(old.expires_at, now() + interval '400 days'), now() + interval '1 day')
      when new.reason in ('logout', 'replaced') then now() + interval '30 days'
      else now() + interval '400 days' end);
  return null;
end
$$;
"""

# What is remembered still: the rest was forgotten, and cannot be told from what never ended.
LONGER = """
alter table chatkeep.revocations no force row level security;
update chatkeep.revocations set until = now() + interval '400 days'
where kind = 'session' and issuer <> 'embedded' and until > now();
alter table chatkeep.revocations force row level security;
"""


def upgrade() -> None:
    """Remember for longer, and what is known so far too."""
    for part in (FUNCTION, LONGER):
        op.execute(part)


def downgrade() -> None:
    """Refuse: what was ended would come back."""
    raise RuntimeError("restore a backup instead: going back would forget who was logged out")
