"""A person with a million sessions: found, listed, ended and forgotten without a long wait.

What one transaction ends shares one number: all of it becomes visible at once, so whoever
has seen the number has seen the whole. Before, each session took the next number from the
same row, which one transaction may update a few times, and not a hundred thousand.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"

INDEXES = """
-- The newest of a person, for where they signed in from lately.
create index user_sessions_begun on public.user_sessions (user_id, created_at desc);
-- What is listed, and what is beyond the most that a person may have.
create index user_sessions_active on public.user_sessions
  (user_id, last_activity_at desc, id desc) where is_active;
create index user_sessions_expiry on public.user_sessions (expires_at);
"""

NUMBERS = """
alter table chatkeep.revocations
  drop constraint revocations_pkey,
  drop constraint revocations_once,
  add constraint revocations_once primary key (kind, issuer, subject);
create index revocations_number on chatkeep.revocations (number);

-- The setting ends with its transaction, and names it: a left-over one counts for nothing.
create or replace function chatkeep.revoke(
  kind text, issuer text, subject text, not_before timestamptz, until timestamptz
) returns void language plpgsql as $$
#variable_conflict use_column
declare
  transaction text := pg_current_xact_id()::text;
  said text := coalesce(current_setting('chatkeep.revoking', true), '');
  taken bigint;
begin
  if split_part(said, ' ', 1) = transaction then
    taken := split_part(said, ' ', 2)::bigint;
  else
    update chatkeep.revocation_numbers set newest = newest + 1 returning newest into taken;
    perform set_config('chatkeep.revoking', transaction || ' ' || taken, true);
    perform pg_notify('chatkeep_revocations', taken::text);
  end if;
  insert into chatkeep.revocations (number, kind, issuer, subject, not_before, until)
  values (taken, revoke.kind, revoke.issuer, revoke.subject, revoke.not_before, revoke.until)
  on conflict on constraint revocations_once do update set
    number = excluded.number, until = greatest(revocations.until, excluded.until),
    not_before = greatest(revocations.not_before, excluded.not_before);
end
$$;

-- Of a session that expired long ago nobody holds a token that lives.
drop trigger session_deleted on public.user_sessions;
create constraint trigger session_deleted after delete on public.user_sessions
  deferrable initially deferred for each row
  when (old.is_active and old.expires_at > now() - interval '2 days')
  execute function chatkeep.session_ended();
"""


def upgrade() -> None:
    """Add the indexes, and let one transaction take one number."""
    for part in (INDEXES, NUMBERS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: numbers that are shared cannot be told apart again."""
    raise RuntimeError("restore a backup instead: going back would forget who was logged out")
