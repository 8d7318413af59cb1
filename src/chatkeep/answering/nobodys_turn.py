"""A turn of nobody's: what PostgreSQL is asked for a question, its answer and the end of that.

Nothing is written, not even what would be undone. Rows that were undone are dead, and autovacuum
comes by for them: it would take stock of the tables of a young server, of which it is taken for
granted that they are large until somebody has looked, and have them read through for each row of
the first long conversation that is brought. And triggers that an operator has added would hear of
somebody who is not there.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from chatkeep.answering import checkpoints, turns
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.answering.turns import Turn
from chatkeep.budgets import ledger
from chatkeep.budgets.amounts import FREE, Limits
from chatkeep.budgets.ledger import Asking, Sums
from chatkeep.errors import NotFound
from chatkeep.ids import new_id
from chatkeep.preferences import Preferences
from chatkeep.runs import Ending

if TYPE_CHECKING:
    from chatkeep.db import Database

_WORDS: Final = "Who rows?"
_USED: Final = Sums(prompt_tokens=1, output_tokens=1, prompt_cost=Decimal(0), cost=Decimal(0))


async def nobodys_turn(db: Database) -> None:
    """Ask and answer in a conversation that is not there: all is planned, and no row is found."""
    user_id = conversation_id = f"rehearsal:{new_id()}"
    await Preferences(db).get_profile(user_id)
    turn = Turn(
        conversation_id=conversation_id,
        run_id=new_id(),
        message_id=new_id(),
        user_message_id=new_id(),
        model="rehearsal",
        content=_WORDS,
        may_create=False,
        title=_WORDS,
    )
    asking = Asking(id=turn.run_id, model=turn.model, size=1, max_tokens=None, kept=True)
    limits = Limits()
    charge = ledger.charging(user_id, [], asking, limits=limits, price=FREE, counts_total=False)
    with suppress(NotFound):
        await turns.start(db, user_id, turn, [charge])
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
    # The last: after what acts for nobody the rest of a transaction is planned anew each time.
    said = Checkpoint(user_id=user_id, run=turn.address, content=_WORDS, parts=None)
    await checkpoints.keep(db, [said])
