"""A turn of nobody's: what PostgreSQL is asked for a question, its answer and the end of that."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from chatkeep.answering import checkpoints, turns
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.answering.turns import Turn
from chatkeep.budgets import ledger
from chatkeep.budgets.amounts import FREE, Limits
from chatkeep.budgets.ledger import Asking, Sums
from chatkeep.ids import new_id
from chatkeep.preferences import Preferences
from chatkeep.runs import Ending

if TYPE_CHECKING:
    from chatkeep.db import Database

_WORDS: Final = "Who rows?"
_USED: Final = Sums(prompt_tokens=1, output_tokens=1, prompt_cost=Decimal(0), cost=Decimal(0))


async def nobodys_turn(db: Database) -> None:
    """Ask and answer as somebody who is not there; whoever calls this undoes it."""
    user_id = conversation_id = f"rehearsal:{new_id()}"
    await Preferences(db).get_profile(user_id)
    turn = Turn(
        conversation_id=conversation_id,
        run_id=new_id(),
        message_id=new_id(),
        user_message_id=new_id(),
        model="rehearsal",
        content=_WORDS,
        may_create=True,
        title=_WORDS,
    )
    asking = Asking(id=turn.run_id, model=turn.model, size=1, max_tokens=None, kept=True)
    limits = Limits()
    charge = ledger.charging(user_id, [], asking, limits=limits, price=FREE, counts_total=False)
    await turns.start(db, user_id, turn, [charge])
    said = Checkpoint(user_id=user_id, run=turn.address, content=_WORDS, parts=None)
    await checkpoints.keep(db, [said])
    settle, _ = ledger.settling(user_id, turn.run_id, turn.model, _USED)
    await checkpoints.finish(
        db,
        user_id,
        turn.address,
        Ending(state="done"),
        content=_WORDS,
        parts=None,
        title=None,
        also=[settle],
    )
