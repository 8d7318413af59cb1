"""How often the hot statements wait for the database: once each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chatkeep import conversations, runs
from chatkeep.answering import checkpoints, turns
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.db import Database, as_user
from chatkeep.ids import new_id
from chatkeep.preferences import Preferences
from chatkeep.runs import Ending
from tests.turns import a_turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.round_trips import RoundTripCounter


@pytest.fixture
async def counted(counter: RoundTripCounter) -> AsyncIterator[Database]:
    """A door on which round trips are counted."""
    db = Database(counter.url, pool_size=1)
    await db.open()
    yield db
    await db.close()


async def test_the_count_is_right(counted: Database, counter: RoundTripCounter) -> None:
    """One for each Sync: a pipeline is one, an explicit transaction is one for each step."""
    ana = as_user("ana")
    with counter.round_trips() as trips:
        await counted.execute(ana, "select 1", [])
    assert trips.count == 1
    with counter.round_trips() as trips:
        async with counted.acting_as(ana) as connection:
            await connection.execute("select 1")
    assert trips.count == len(["begin", "set_config", "select", "commit"])
    with counter.round_trips() as trips:
        await counted.execute(ana, "select repeat('x', 1000000)", [])
        await counted.execute(ana, "select 1", [])
    assert trips.count == 2


async def test_a_turn_takes_one_to_start_and_one_to_end(
    counted: Database, counter: RoundTripCounter
) -> None:
    """Question, answer, run and history in one; a checkpoint is one; so is the end."""
    person, conversation = new_id(), new_id()
    for _ in range(2):
        turn = a_turn(conversation_id=conversation)
        run = turn.address
        with counter.round_trips() as trips:
            await turns.start(counted, person, turn)
        assert trips.count == 1
        with counter.round_trips() as trips:
            said = Checkpoint(user_id=person, run=run, content="Hel", parts=None)
            await checkpoints.keep(counted, [said])
        assert trips.count == 1
        with counter.round_trips() as trips:
            ending = Ending(state="done")
            await checkpoints.finish(
                counted, person, run, ending, content="Hello", parts=None, title="Hello"
            )
        assert trips.count == 1


async def test_checkpoints_of_many_take_one(counted: Database, counter: RoundTripCounter) -> None:
    """However many people are being answered; each keeps their own, and hears of their stop."""
    people, kept = [new_id() for _ in range(5)], []
    for person in people:
        turn = a_turn()
        await turns.start(counted, person, turn)
        run = turn.address
        kept.append(Checkpoint(user_id=person, run=run, content=f"For {person}", parts=None))
    stopped, foreign = kept[1], replace(kept[4], user_id=people[0])
    await runs.request_stop(counted, stopped.user_id, stopped.run.id)
    with counter.round_trips() as trips:
        told = await checkpoints.keep(counted, [*kept[:4], foreign])
    assert trips.count == 1
    assert told == [False, True, False, False, True]
    for one in kept[:4]:
        found = await runs.get_run(counted, one.user_id, one.run.id)
        assert found.content == f"For {one.user_id}"
    assert (await runs.get_run(counted, people[4], kept[4].run.id)).content == ""


async def test_reading_takes_one(counted: Database, counter: RoundTripCounter) -> None:
    """A page of the history, of the list, of a search; a profile one, and from memory none."""
    person = new_id()
    conversation = await conversations.start_conversation(counted, person, greeting="Hello!")
    with counter.round_trips() as trips:
        await conversations.get_page(counted, person, conversation, limit=50)
    assert trips.count == 1
    with counter.round_trips() as trips:
        await conversations.list_conversations(counted, person, limit=50)
    assert trips.count == 1
    with counter.round_trips() as trips:
        await conversations.search_titles(counted, person, "cabbage", limit=50)
    assert trips.count == 1
    preferences = Preferences(counted)
    with counter.round_trips() as trips:
        await preferences.get_profile(person)
    assert trips.count == 1
    with counter.round_trips() as trips:
        await preferences.get_profile(person)
    assert trips.count == 0
