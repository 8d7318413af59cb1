"""Links to one branch of a conversation, and the right to erase one's own profile.

Of a link's token only the hash is kept. Whoever opens a link has no caller, so the role
that signs people in finds whose branch it is, and sees nothing but ids; the branch is then
read as its owner.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0017"
down_revision = "0016"

TABLE = """
create table chat.shares (
  user_id text not null,
  id text not null,
  conversation_id text not null,
  head_id text not null,
  token_hash bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  primary key (user_id, id),
  constraint shares_message foreign key (user_id, conversation_id, head_id)
    references chat.messages (user_id, conversation_id, id) on update cascade on delete cascade
);
create unique index shares_token on chat.shares (token_hash);
create index shares_of_message on chat.shares (user_id, conversation_id, head_id);
"""

RIGHTS = """
create policy shares_of_caller on chat.shares
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
grant select, insert, update, delete on chat.shares to chatkeep_app;
grant usage on schema chat to chatkeep_auth;
create policy shares_opened on chat.shares for select to chatkeep_auth using (true);
grant select (user_id, conversation_id, head_id, token_hash, expires_at) on chat.shares
  to chatkeep_auth;

create policy profiles_erase on chat.profiles
  for delete to chatkeep_app using (id = (select chat.caller_id()));
grant delete on chat.profiles to chatkeep_app;
"""


def upgrade() -> None:
    """Make the table, and give the right."""
    for part in (TABLE, closed("chat.shares"), RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """End every link."""
    op.execute("drop table chat.shares")
    op.execute("revoke usage on schema chat from chatkeep_auth")
    op.execute("drop policy profiles_erase on chat.profiles")
    op.execute("revoke delete on chat.profiles from chatkeep_app")
