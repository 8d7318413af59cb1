"""A question that may not begin is told why, although what was in its way has ended since."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest

from chatkeep.answering import turns
from chatkeep.answering.history import BYTES_AT_MOST
from chatkeep.answering.refusals import AlreadyStarted
from chatkeep.db import Database
from chatkeep.errors import IdempotencyKeyReused, NotFound, RunInProgress
from chatkeep.ids import new_id
from tests.turns import a_turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.answering.turns import Turn
    from chatkeep.db import Caller, Query
    from tests.postgres_servers import MigratedDatabase


class EndsMeanwhile(Database):
    """A door behind which whatever waits or runs has ended by the time it is asked again."""

    def __init__(self, database: MigratedDatabase) -> None:
        """Connect as the server does; *database* is also reached as its administrator."""
        super().__init__(database.url, pool_size=1)
        self._admin_url = database.admin_url

    async def fetch_all(self, caller: Caller, *queries: Query[Any]) -> list[list[Any]]:
        """Send them, and end what was in their way."""
        try:
            return await super().fetch_all(caller, *queries)
        finally:
            set_state(self._admin_url, "done")


def set_state(admin_url: str, state: str) -> None:
    """Let every run be in *state*."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("update chat.runs set state = %s", [state])


@pytest.fixture
async def db(database: MigratedDatabase) -> AsyncIterator[Database]:
    """The door of the server under test."""
    door = EndsMeanwhile(database)
    await door.open()
    yield door
    await door.close()


def a_request() -> Turn:
    """Return the first turn of a new conversation, with a request key."""
    return a_turn(request_key=f"key:{new_id()}")


def once_more(turn: Turn, content: str = "Hello") -> Turn:
    """Return another request for the same conversation, with the same key."""
    return replace(
        turn,
        run_id=new_id(),
        message_id=new_id(),
        user_message_id=new_id(),
        may_create=False,
        content=content,
    )


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_whoever_was_in_the_way_is_named_when_it_has_ended(
    db: Database, database: MigratedDatabase, state: str
) -> None:
    """The conversation is there, so it is never said that it is not."""
    turn = a_request()
    await turns.start(db, "ana", turn)
    set_state(database.admin_url, state)
    with pytest.raises(RunInProgress) as refused:
        await turns.start(db, "ana", replace(once_more(turn), request_key=None))
    assert refused.value.run_id == turn.run_id


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_copy_is_led_to_the_run_of_the_first_when_it_has_ended(
    db: Database, database: MigratedDatabase, state: str
) -> None:
    """The same question is the same run; another with the same key is refused."""
    turn = a_request()
    await turns.start(db, "ana", turn)
    set_state(database.admin_url, state)
    with pytest.raises(AlreadyStarted) as same:
        await turns.start(db, "ana", once_more(turn))
    assert same.value.run_id == turn.run_id
    set_state(database.admin_url, state)
    with pytest.raises(IdempotencyKeyReused):
        await turns.start(db, "ana", once_more(turn, "Another"))


async def test_where_there_is_no_conversation_none_is_found(db: Database) -> None:
    """Nothing was in its way."""
    with pytest.raises(NotFound):
        await turns.start(db, "ana", once_more(a_request()))


async def test_history_ends_where_no_model_takes_more(
    db: Database, database: MigratedDatabase
) -> None:
    """The newest messages that fill 8 MiB, and with parts of that size likewise; no older ones."""
    turn = a_request()
    await turns.start(db, "ana", turn)
    place = {"conversation": turn.conversation_id, "question": turn.user_message_id}
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(_LONG_ONES, place)
        admin.execute(
            "update chat.messages set parent_id = 'long 20' where id = %(question)s", place
        )
    set_state(database.admin_url, "done")
    asked = replace(
        once_more(turn), branches=True, parent_id=turn.user_message_id, request_key=None
    )
    started = await turns.start(db, "ana", asked)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("delete from chat.conversations where id = %(conversation)s", place)
    sizes = [len(one.content) + len(str(one.parts or "")) for one in started.history]
    assert BYTES_AT_MOST <= sum(sizes) < BYTES_AT_MOST + 1024 * 1024 + 10_000
    assert [one.content for one in started.history[-2:]] == ["Hello", "Hello"]


_LONG_ONES: LiteralString = """
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content, parts)
select 'ana', %(conversation)s, 'long ' || n, case when n > 1 then 'long ' || (n - 1) end, 'user',
  case when n %% 2 = 0 then repeat('x', 1048576) else '' end,
  case when n %% 2 = 1 then jsonb_build_array(jsonb_build_object('type', 'text', 'text',
    repeat('x', 1048576))) end
from generate_series(1, 20) n
"""
