"""The AI SDK's stream: which of its chunks are sent together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from chatkeep.answering.reading import Ended, PartBegan, PartEnded, PartGrew, StillWorking
from chatkeep.runs import Ending
from chatkeep.web.ai_sdk import answers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.answering.reading import AnswerEvent


async def _answer() -> AsyncGenerator[AnswerEvent, None]:
    yield StillWorking()
    yield PartBegan(index=0, kind="reasoning")
    yield PartGrew(index=0, kind="reasoning", text="Hm")
    yield PartGrew(index=0, kind="reasoning", text="!")
    yield PartEnded(index=0, kind="reasoning")
    yield PartBegan(index=1, kind="text")
    yield PartGrew(index=1, kind="text", text="Yes")
    yield PartEnded(index=1, kind="text")
    yield Ended(ending=Ending(state="done"))


def _kinds(frame: bytes) -> list[str]:
    """Name the chunks of a frame, in order; a comment is one, too."""
    found = []
    for block in frame.decode().removesuffix("\n\n").split("\n\n"):
        data = block.removeprefix("data: ")
        found.append(msgspec.json.decode(data)["type"] if data.startswith("{") else data)
    return found


async def test_what_begins_or_ends_a_text_is_sent_with_what_follows() -> None:
    """Each piece of an answer is sent alone and at once, with no frame for its frame."""
    sent = [one async for one in answers.frames(_answer(), message_id="m", metadata={})]
    assert [_kinds(one) for one in sent] == [
        ["start", "start-step"],
        [": keep-alive"],
        ["reasoning-start", "reasoning-delta"],
        ["reasoning-delta"],
        ["reasoning-end", "text-start", "text-delta"],
        ["text-end", "finish-step", "finish", "[DONE]"],
    ]
