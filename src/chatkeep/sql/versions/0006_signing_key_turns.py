"""Signing keys that take turns: when each began and ceased to sign, and who hears of it."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

COLUMNS = """
alter table chatkeep.signing_keys
  add column signs_since timestamptz,
  add column retired_at timestamptz,
  add column revoked_at timestamptz;
alter table chatkeep.signing_keys no force row level security;
update chatkeep.signing_keys set signs_since = created_at where status in ('current', 'previous');
update chatkeep.signing_keys set retired_at = now() where status = 'previous';
update chatkeep.signing_keys set revoked_at = now() where status = 'revoked';
alter table chatkeep.signing_keys force row level security;
"""

NOTICE = """
create function chatkeep.signing_keys_changed() returns trigger language plpgsql as $$
begin
  perform pg_notify('chatkeep_signing_keys', '');
  return null;
end
$$;
create trigger signing_keys_changed after insert or update or delete on chatkeep.signing_keys
  for each statement execute function chatkeep.signing_keys_changed();
"""


def upgrade() -> None:
    """Add the moments, and tell every server at once when something changes."""
    for part in (COLUMNS, NOTICE):
        op.execute(part)


def downgrade() -> None:
    """Refuse: the waits between two keys could not be kept any more."""
    raise RuntimeError("restore a backup instead: going back would forget since when keys sign")
