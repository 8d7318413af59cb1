"""What a turn reads while nobody has gathered statistics yet: its own rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import psycopg

from chatkeep.answering import checkpoints, turns
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.answering.reading import Ended
from chatkeep.answering.replies import Replies
from chatkeep.answering.responders import ModelResponder
from chatkeep.db import Database
from chatkeep.llm.model import ModelSettings
from chatkeep.policies import Choices
from chatkeep.principal import Principal
from chatkeep.testing import FakeModel
from chatkeep.tools import Tools
from tests.patience import PATIENCE_S
from tests.turns import a_turn

if TYPE_CHECKING:
    from chatkeep.answering.turns import Turn
    from tests.postgres_servers import MigratedDatabase

_TURNS: Final = 80
_READ_AT_MOST: Final = 20
_ANA: Final = Principal(user_id="ana", issuer="embedded", subject="ana")
_CHOICES: Final = Choices(settings=ModelSettings(model="m"), system_prompt=None)


async def test_turn_reads_its_own_rows_before_anything_is_analysed(
    database: MigratedDatabase,
) -> None:
    """Plans that were made of empty tables do not read all that somebody has."""
    db = Database(database.url, pool_size=1)
    await db.open()
    try:
        responder = ModelResponder(FakeModel(), Tools())
        replies = Replies(db, responder, pseudonym=lambda user_id: user_id)
        for _ in range(_TURNS):
            await _take_a_turn(replies)
        await replies.close(drain_s=5)
    finally:
        await db.close()
    read = await _read_of_each(database)
    too_much = {name: count for name, count in read.items() if count / _TURNS > _READ_AT_MOST}
    assert too_much == {}


async def test_checkpoints_read_their_own_rows_before_anything_is_analysed(
    database: MigratedDatabase,
) -> None:
    """What is kept of many answers together looks each of them up, and not all there are."""
    db = Database(database.url, pool_size=1)
    await db.open()
    try:
        made = [a_turn() for _ in range(_TURNS)]
        for turn in made:
            await turns.start(db, _ANA.user_id, turn)
        for turn in made:
            assert await checkpoints.keep(db, [_checkpoint(turn)]) == [False]
    finally:
        await db.close()
    read = await _read_of_each(database)
    assert {name: count for name, count in read.items() if count / _TURNS > _READ_AT_MOST} == {}


def _checkpoint(turn: Turn) -> Checkpoint:
    run = turn.address
    return Checkpoint(user_id=_ANA.user_id, run=run, content="Hel", parts=None)


async def _take_a_turn(replies: Replies) -> None:
    answer = await replies.begin(_ANA, a_turn(), _CHOICES)
    async for event in answer.follow():
        assert not isinstance(event, Ended) or event.ending.state == "done"


async def _read_of_each(database: MigratedDatabase) -> dict[str, int]:
    """Return how many rows of each table were read, once all the turns are counted."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with psycopg.connect(database.admin_url, autocommit=True) as connection:
                rows = connection.execute(
                    "select relname, n_tup_ins, coalesce(seq_tup_read, 0)"
                    " + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables"
                    " where relname in ('runs', 'charges', 'budgets', 'usage', 'conversations',"
                    " 'messages')"
                ).fetchall()
            if any(name == "runs" and inserted >= _TURNS for name, inserted, _ in rows):
                return {name: read for name, _, read in rows}
            await asyncio.sleep(0.05)
