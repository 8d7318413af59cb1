"""Whoever waits until somebody else has changed a conversation goes by what is there then."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
import pytest

from chatkeep.answering import checkpoints, turns
from chatkeep.db import as_user
from chatkeep.errors import AnswerNotInterrupted, RunInProgress
from chatkeep.ids import new_id
from chatkeep.openai_api import conversation_items, responses
from chatkeep.openai_api.conversation_items import NewMessage
from chatkeep.runs import Ending
from tests.serving import until
from tests.turns import a_turn

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from chatkeep.answering.turns import Turn
    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase

_PERSON: Final = "ana"
_HOLD: LiteralString = "select from chat.conversations where id = %(talk)s for update;"
_BEGIN: LiteralString = """
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content, run_id) values
  (%(user)s, %(talk)s, %(question)s, %(end)s, 'user', 'And then?', null),
  (%(user)s, %(talk)s, %(answer)s, %(question)s, 'assistant', '', %(answer)s);
update chat.conversations set head_id = %(answer)s where id = %(talk)s;
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until)
  values (%(user)s, %(answer)s, %(talk)s, %(answer)s, %(state)s, 'm', now() + interval '1 h');
"""
_COMPLETE: LiteralString = "update chat.runs set state = 'done' where conversation_id = %(talk)s;"


async def test_nothing_is_added_below_an_answer_that_has_begun(
    db: Database, database: MigratedDatabase
) -> None:
    """Whoever adds to a conversation while another server begins to answer in it is told so."""
    turn = await _answered(db, "done")
    message = NewMessage(id=new_id(), role="user", content="Also this", parts=None)
    adding = conversation_items.add(db, _PERSON, turn.conversation_id, [message])
    with pytest.raises(RunInProgress):
        await _beside(database, _begun(turn, "running"), adding)
    assert _messages(database, message.id) == []


async def test_what_tools_said_is_not_written_beside_an_answer_that_has_begun(
    db: Database, database: MigratedDatabase
) -> None:
    """Nor is an answer changed from which the next is being made."""
    turn = await _answered(db, "done")
    answered = (turn.message_id, [{"type": "text", "text": "Changed"}])
    adding = conversation_items.add(db, _PERSON, turn.conversation_id, [], answered=answered)
    with pytest.raises(RunInProgress):
        await _beside(database, _begun(turn, "running"), adding)
    assert _messages(database, turn.message_id) == [("Hello.", None)]


async def test_nothing_is_erased_beneath_an_answer_that_has_begun(
    db: Database, database: MigratedDatabase
) -> None:
    """The model has read it, so that the answer could say it again."""
    turn = await _answered(db, "done")
    erasing = conversation_items.erase(
        *(db, _PERSON, turn.conversation_id, turn.message_id),
        content="",
        parts=None,
        part_id=new_id(),
    )
    with pytest.raises(RunInProgress):
        await _beside(database, _begun(turn, "running"), erasing)
    assert _messages(database, turn.message_id) == [("Hello.", None)]


async def test_nobody_overtakes_whoever_has_begun_to_wait(
    db: Database, database: MigratedDatabase
) -> None:
    """A question is refused that comes while another is put in line, also if none is answered."""
    turn = await _answered(db, "done")
    other = a_turn(conversation_id=turn.conversation_id, may_create=False)
    with pytest.raises(RunInProgress):
        await _beside(database, _begun(turn, "queued"), turns.start(db, _PERSON, other))
    assert _messages(database, other.message_id) == []


async def test_answer_that_is_whole_by_now_is_not_continued(
    db: Database, database: MigratedDatabase
) -> None:
    """A server that was given up comes back, and keeps the end of what seemed cut off."""
    turn = await _answered(db, "interrupted")
    other = replace(turn, run_id=new_id(), content=None, continues=turn.run_id)
    with pytest.raises(AnswerNotInterrupted):
        await _beside(
            database, (_COMPLETE, {"talk": turn.conversation_id}), turns.start(db, _PERSON, other)
        )


async def test_conversation_is_not_deleted_in_which_an_answer_has_begun(
    db: Database, database: MigratedDatabase
) -> None:
    """What was made for a response that is forgotten is not for that one alone any more."""
    turn = await _answered(db, "done")
    noted = responses.noting(_PERSON, turn.run_id, "response", request={}, brought=[], alone=True)
    await db.fetch_all(as_user(_PERSON), noted)
    forgetting = responses.forget(db, _PERSON, turn.run_id, "response")
    await _beside(database, _begun(turn, "running"), forgetting)
    deleted = "select deleted_at from chat.conversations where id = %s"
    assert database.operate(deleted, turn.conversation_id) == [(None,)]


async def _answered(db: Database, state: Any) -> Turn:  # noqa: ANN401 -- of an ending
    turn = a_turn()
    await turns.start(db, _PERSON, turn)
    ending = Ending(state=state)
    await checkpoints.finish(
        db, _PERSON, turn.address, ending, content="Hello.", parts=None, title=None
    )
    return turn


def _begun(turn: Turn, state: str) -> tuple[LiteralString, dict[str, object]]:
    """What another server does that begins an answer below that of *turn*."""
    return _BEGIN, {
        "user": _PERSON,
        "talk": turn.conversation_id,
        "end": turn.message_id,
        "question": new_id(),
        "answer": new_id(),
        "state": state,
    }


async def _beside(
    database: MigratedDatabase,
    other: tuple[LiteralString, dict[str, object]],
    what: Coroutine[Any, Any, object],
) -> object:
    """Let *what* come while the *other* is done, of which nothing is seen before its end."""
    text, values = other
    with psycopg.connect(database.admin_url) as connection:
        psycopg.ClientCursor(connection).execute(_HOLD + text, values)
        doing = asyncio.create_task(what)
        await until(lambda: doing.done() or database.waiting_for_locks() > 0)
        connection.commit()
    return await doing


def _messages(database: MigratedDatabase, message_id: str) -> list[tuple[Any, ...]]:
    return database.operate("select content, parts from chat.messages where id = %s", message_id)
