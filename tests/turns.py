"""Turns of a chat, as whoever asks a question begins them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chatkeep.answering.turns import Turn
from chatkeep.ids import new_id


def a_turn(**changes: Any) -> Turn:  # noqa: ANN401 -- fields of a turn
    """Return the first turn of a new conversation, but for *changes*."""
    turn = Turn(
        conversation_id=new_id(),
        run_id=new_id(),
        message_id=new_id(),
        user_message_id=new_id(),
        model="m",
        content="Hello",
        may_create=True,
    )
    return replace(turn, **changes)
