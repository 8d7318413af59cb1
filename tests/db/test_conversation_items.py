"""What a message said is erased together with ChatKit's copies of it, or nothing of it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.errors import RunInProgress
from chatkeep.ids import new_id
from chatkeep.openai_api import conversation_items

if TYPE_CHECKING:
    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase

_FIXED = {"user": "ana-who-erases", "message": "said", "copy": "said.0"}
_A_TALK = """
insert into chat.conversations (user_id, id, head_id) values (%(user)s, %(talk)s, %(message)s);
insert into chat.messages (user_id, conversation_id, id, role, content)
  values (%(user)s, %(talk)s, %(message)s, 'user', 'words');
insert into chat.chatkit_items (user_id, conversation_id, id, message_id, item)
  values (%(user)s, %(talk)s, %(copy)s, %(message)s, '{"said": "words"}'),
    (%(user)s, %(talk)s, %(message)s, %(message)s, '{"said": "words"}');
"""
_AN_ANSWER = """
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content)
  values (%(user)s, %(talk)s, %(run)s, %(message)s, 'assistant', '');
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until)
  values (%(user)s, %(run)s, %(talk)s, %(run)s, 'running', 'm', now());
"""
_KEPT = (
    "select m.content, i.item, i.hidden from chat.messages m join chat.chatkit_items i"
    " on i.user_id = m.user_id and i.conversation_id = m.conversation_id"
    " where m.user_id = %(user)s and m.conversation_id = %(talk)s and m.id = %(message)s"
)


@pytest.mark.parametrize("is_answered", [False, True])
async def test_copies_go_with_the_words_and_stay_with_them(
    db: Database, database: MigratedDatabase, *, is_answered: bool
) -> None:
    """While the conversation is answered that is refused, and nothing has happened then."""
    names = {**_FIXED, "talk": new_id(), "run": new_id()}

    async def erase() -> None:
        await conversation_items.erase(
            db,
            names["user"],
            names["talk"],
            names["message"],
            content="",
            parts=None,
            part_id=names["copy"],
        )

    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        psycopg.ClientCursor(connection).execute(_A_TALK, names)
        if is_answered:
            psycopg.ClientCursor(connection).execute(_AN_ANSWER, names)
            with pytest.raises(RunInProgress):
                await erase()
        else:
            await erase()
        kept = connection.execute(_KEPT, names).fetchall()
    assert kept == [("words", {"said": "words"}, False) if is_answered else ("", {}, True)] * 2
