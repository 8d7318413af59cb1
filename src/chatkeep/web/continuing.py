"""Going on with an answer that was cut off: the same for REST and for the AI SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep import conversations
from chatkeep.answering.turns import Turn
from chatkeep.errors import AnswerNotInterrupted, NotFound
from chatkeep.ids import new_id
from chatkeep.web.once import begun_once

if TYPE_CHECKING:
    from chatkeep.answering.answers import Answer
    from chatkeep.idempotency import Marked
    from chatkeep.policies import Choices
    from chatkeep.principal import Principal
    from chatkeep.web.services import Services


async def continued(
    services: Services,
    who: Principal,
    conversation_id: str,
    choices: Choices,
    *,
    message_id: str | None = None,
    marked: Marked | None = None,
) -> Answer:
    """Go on with the answer that is shown last, or join whoever does; *marked* as `begun_once`.

    Raises:
        AnswerNotInterrupted: it is whole, failed, is not *message_id*, or there is none.
        NotFound: no such conversation of *who*.
    """
    found = await conversations.find_answer(services.db, who.user_id, conversation_id, message_id)
    if found is None:
        place = await conversations.find_place(services.db, who.user_id, conversation_id, None)
        raise NotFound if place is None else AnswerNotInterrupted
    if marked is None and found.run_id and found.status in {"queued", "running"}:
        return await services.replies.join(who.user_id, found.run_id)
    turn = Turn(
        conversation_id=conversation_id,
        run_id=new_id(),
        message_id=found.id,
        user_message_id=found.parent_id,
        model=choices.settings.model,
        content=None,
        # Without a key of its own: what one run left is continued once.
        request_key=f"on:{found.run_id}",
        continues=found.run_id or "",
    )
    return await begun_once(
        services, who, turn, lambda turn: services.replies.begin(who, turn, choices), marked=marked
    )
