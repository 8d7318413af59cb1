"""Why a turn did not begin: it was asked before, something is in its way, or it is not there.

Asked once the database has refused it, when whatever was in its way may have ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep import runs
from chatkeep.budgets.refusals import refusal
from chatkeep.errors import AnswerNotInterrupted, IdempotencyKeyReused, NotFound, RunInProgress

if TYPE_CHECKING:
    from chatkeep.answering.turns import Turn
    from chatkeep.db import ConstraintViolated, Database


class AlreadyStarted(Exception):
    """This very request was made before; its run is *run_id*."""

    def __init__(self, run_id: str) -> None:
        """Keep which run to join."""
        self.run_id = run_id
        super().__init__(run_id)


async def find_repeated(
    db: Database, user_id: str, turn: Turn
) -> AlreadyStarted | IdempotencyKeyReused | None:
    """Find what the same request has begun: that run, or the refusal of another question."""
    if turn.request_key is None:
        return None
    same = await runs.find_by_request(db, user_id, turn.request_key)
    if same is None:
        return None
    return (
        AlreadyStarted(same.id) if turn.content in {None, same.question} else IdempotencyKeyReused()
    )


async def why_violated(
    db: Database, user_id: str, turn: Turn, violated: ConstraintViolated
) -> Exception:
    """Say why a constraint kept *turn* from beginning. A duplicate may break any of them first."""
    if (same := await find_repeated(db, user_id, turn)) is not None:
        return same
    if (exhausted := await refusal(db, violated)) is not None:
        return exhausted
    if violated.name == "messages_parent":
        return NotFound()
    return await _in_the_way(db, user_id, turn)


async def why_not_begun(db: Database, user_id: str, turn: Turn) -> Exception:
    """Say why nothing of *turn* was begun although nothing forbade it."""
    if (same := await find_repeated(db, user_id, turn)) is not None:
        return same
    if turn.continues is None and turn.resumed is None:
        return await _in_the_way(db, user_id, turn)
    active = await runs.find_active(db, user_id, turn.conversation_id)
    if active is not None:
        return RunInProgress(run_id=active)
    if turn.resumes is not None:  # somebody else has decided a moment before
        return await _in_the_way(db, user_id, turn)
    return NotFound() if turn.continues is None else AnswerNotInterrupted()


async def _in_the_way(db: Database, user_id: str, turn: Turn) -> Exception:
    """Name the run that kept *turn* from beginning, even when it has ended since."""
    newest = await runs.find_newest(db, user_id, turn.conversation_id)
    return NotFound() if newest is None else RunInProgress(run_id=newest)
