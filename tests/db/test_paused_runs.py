"""What a run leaves to be gone on from: given to the run that goes on, once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chatkeep.answering import checkpoints, turns
from chatkeep.errors import RunInProgress
from chatkeep.ids import new_id
from chatkeep.runs import Ending
from tests.turns import a_turn

if TYPE_CHECKING:
    from chatkeep.answering.turns import Turn
    from chatkeep.db import Database


def going_on(turn: Turn, **more: Any) -> Turn:  # noqa: ANN401 -- any member of a turn
    """Return the turn that goes on with the answer of *turn*."""
    part = {"type": "dynamic-tool", "toolCallId": "c", "toolName": "pay", "state": "x", "input": {}}
    return replace(turn, run_id=new_id(), content=None, request_key=None, resumed=[part], **more)


async def test_what_a_run_left_is_given_to_the_one_that_goes_on_with_it_alone(
    db: Database,
) -> None:
    """Two that decide a moment apart do not both go on: the second is told of the first."""
    turn = a_turn()
    await turns.start(db, "ana", turn)
    address = turn.address
    stands = Ending(state="done", paused="here")
    await checkpoints.finish(db, "ana", address, stands, content="", parts=None, title=None)
    first = going_on(turn, resumes=turn.run_id)
    assert (await turns.start(db, "ana", first)).paused == "here"
    again = replace(address, id=first.run_id)
    await checkpoints.finish(
        db, "ana", again, Ending(state="done"), content="", parts=None, title=None
    )
    with pytest.raises(RunInProgress) as refused:
        await turns.start(db, "ana", going_on(turn, resumes=turn.run_id))
    assert refused.value.run_id == first.run_id
    later = await turns.start(db, "ana", going_on(turn, resumes=first.run_id))
    assert later.paused is None
