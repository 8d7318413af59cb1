"""What is erased from a message is found no more, and what takes its place is.

The words of a message were read when it came, or when its answer had ended. Whoever erased or
rewrote an item of it afterwards left the words of before, with their places in the text, where
the search looks.
"""

from __future__ import annotations

from alembic import op

revision = "0038"
down_revision = "0037"

# To give the function to its role, whoever migrates is a member of it meanwhile.
MEANWHILE = """
do $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant chatkeep_search to %I', current_user);
  end if;
end
$$;
grant create on schema chat to chatkeep_search;
"""

READ_AGAIN = """
set local role chatkeep_search;

-- Called with the message that its caller has just rewritten; of nobody else's it sees nothing.
create function chat.read_words_again(conversation text, message text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  me constant text := chat.caller_id();
  said text;
  at timestamptz;
  words tsvector;
begin
  select m.content, m.created_at into said, at from chat.messages m
  where m.user_id = me and m.conversation_id = conversation and m.id = message;
  if not found then
    return;
  end if;
  begin
    words := chat.words_of(me, said, (select p.locale from chat.profiles p where p.id = me));
  exception when program_limit_exceeded then
    -- More different words than a vector holds: what was said is kept, and not found.
    words := chat.words_of(me, '', null);
  end;
  insert into chat.message_words as kept (user_id, conversation_id, message_id, said_at, words)
  values (me, conversation, message, at, words)
  on conflict (user_id, conversation_id, message_id) do update
    set words = excluded.words where kept.words <> excluded.words;
end
$$;
revoke all on function chat.read_words_again(text, text) from public;
grant execute on function chat.read_words_again(text, text) to chatkeep_app;

reset role;
"""

ALONE = """
revoke create on schema chat from chatkeep_search;
do $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('revoke chatkeep_search from %I', current_user);
  end if;
end
$$;
"""


def upgrade() -> None:
    """Add a function that servers of the version before do not call."""
    for part in (MEANWHILE, READ_AGAIN, ALONE):
        op.execute(part)


def downgrade() -> None:
    """Leave the words of before again."""
    op.execute("drop function chat.read_words_again")
