"""What a planner must know to find one message of a long conversation by its whole key.

A conversation belongs to one person. Not knowing that, PostgreSQL multiplies how rare the two
are, takes any conversation for one row long, and then as well reads all of it as looks into
the index for one message, in plans made once for every value (those of prepared statements):
a page of 60,000 messages took two seconds.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"

STATISTICS = """
create statistics chat.messages_belong (dependencies)
  on user_id, conversation_id from chat.messages;
create statistics chat.runs_belong (dependencies)
  on user_id, conversation_id from chat.runs;
create statistics chat.chatkit_items_belong (dependencies)
  on user_id, conversation_id from chat.chatkit_items;
create statistics chat.message_words_belong (dependencies)
  on user_id, conversation_id from chat.message_words;
"""

#: A client names a message by its own id when it has not learnt ours.
INDEX = """
create index messages_of_clients on chat.messages (user_id, conversation_id, client_id)
  where client_id is not null;
"""

#: Without it nothing would change until the tables have grown by a tenth. Not of an empty one:
#: known to be so, every way through it counts as equally good, and a plan that is made while
#: nobody has gathered anew reads all that a person has to find one of their rows.
GATHERED = """
do $$
declare
  one regclass;
begin
  foreach one in array array['chat.messages', 'chat.runs', 'chat.chatkit_items',
    'chat.message_words']::regclass[]
  loop
    if pg_relation_size(one) > 0 then
      execute format('analyze %s', one);
    end if;
  end loop;
end
$$;
"""


def upgrade() -> None:
    """Say so; every plan is then made anew."""
    for part in (STATISTICS, INDEX, GATHERED):
        op.execute(part)


def downgrade() -> None:
    """Let the planner guess again."""
    op.execute("drop index chat.messages_of_clients")
    op.execute(
        "drop statistics chat.messages_belong, chat.runs_belong, chat.chatkit_items_belong,"
        " chat.message_words_belong"
    )
