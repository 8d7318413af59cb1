"""Personal API keys: what a person's programs show instead of a token.

Of a key only the hash is kept. One that is taken away is written among what has ended, under
its id, so that every node knows at once; and whatever ends everything of a person ends their
keys, whichever way it came about.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0018"
down_revision = "0017"

# *shown* are the first characters, by which its owner knows it again. *role* and *roles* are
# those of an owner whom another issuer knows, as they were when the key was made.
TABLE = """
create table chatkeep.personal_keys (
  user_id text not null,
  id uuid not null,
  issuer text not null,
  subject text not null,
  name text not null check (char_length(name) between 1 and 80),
  shown text not null,
  key_hash bytea not null,
  scopes text[] not null,
  role text not null,
  roles text[] not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  last_used_at timestamptz,
  revoked_at timestamptz,
  reason text,
  primary key (user_id, id)
);
create unique index personal_keys_hash on chatkeep.personal_keys (key_hash);
create index personal_keys_ended on chatkeep.personal_keys (least(expires_at, revoked_at));
create index personal_keys_living on chatkeep.personal_keys (issuer, user_id, id)
  where revoked_at is null;
"""

FUNCTIONS = """
-- Deferred, because it takes the one row of numbers.
create function chatkeep.personal_key_ended() returns trigger language plpgsql as $$
begin
  perform chatkeep.revoke('token', old.issuer, old.id::text, null, old.expires_at);
  return null;
end
$$;
create constraint trigger personal_key_ended after update on chatkeep.personal_keys
  deferrable initially deferred for each row
  when (old.revoked_at is null and new.revoked_at is not null)
  execute function chatkeep.personal_key_ended();
create constraint trigger personal_key_deleted after delete on chatkeep.personal_keys
  deferrable initially deferred for each row
  when (old.revoked_at is null) execute function chatkeep.personal_key_ended();

-- Whoever makes a key takes the same lock: so it is there by now, or made after this is known.
create function chatkeep.keys_of_person_ended() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('personal keys of ' || new.subject, 0));
  -- Whoever holds a row may be waiting for the number that this transaction has. It ends the
  -- row itself, or notes a use of it; that the key is good no more is said by the new row.
  update chatkeep.personal_keys set revoked_at = now(), reason = 'everything_ended'
  where (user_id, id) in (
    select user_id, id from chatkeep.personal_keys
    where user_id = new.subject and revoked_at is null for update skip locked
  );
  return null;
end
$$;
create trigger keys_of_person_ended after insert or update on chatkeep.revocations
  for each row when (new.kind = 'user') execute function chatkeep.keys_of_person_ended();
"""

RIGHTS = """
create policy personal_keys_keep on chatkeep.personal_keys
  for all to chatkeep_auth using (true) with check (true);
grant select, insert, update, delete on chatkeep.personal_keys to chatkeep_auth;
create policy personal_keys_of_caller on chatkeep.personal_keys
  for select to chatkeep_app using (user_id = (select chat.caller_id()));
grant select on chatkeep.personal_keys to chatkeep_app;
"""


def upgrade() -> None:
    """Make the table, closed to everybody but its owner, and who checks keys."""
    for part in (TABLE, closed("chatkeep.personal_keys"), FUNCTIONS, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """End every key."""
    op.execute("drop trigger keys_of_person_ended on chatkeep.revocations")
    op.execute("drop table chatkeep.personal_keys")
    op.execute("drop function chatkeep.keys_of_person_ended()")
    op.execute("drop function chatkeep.personal_key_ended()")
