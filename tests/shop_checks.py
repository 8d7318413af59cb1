"""The checks and the retriever of a shop, as an application of ours would write them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from chatkeep import Instead, Passage
from chatkeep.errors import AnswerRefused, MessageRefused
from chatkeep.llm.model import Prompt, PromptMessage

if TYPE_CHECKING:
    from chatkeep import Asked, Heard

#: What `after` was shown, in order.
heard: list[Heard] = []


async def before(asked: Asked) -> Prompt | Instead | None:
    """Do what the question says."""
    question = asked.question
    if "weapon" in question:
        raise MessageRefused
    if "hours" in question:
        return Instead(text="We are open from 9 to 5.")
    if "French" in question:
        more = PromptMessage(role="system", text="Answer in French.")
        return replace(asked.prompt, messages=[more, *asked.prompt.messages])
    if "bug" in question:
        raise ValueError(question)
    if "slow" in question:
        await asyncio.sleep(60)
    return None


async def after(asked: Asked, said: Heard) -> str | None:
    """Let no secret out, and nothing that is forbidden."""
    heard.append(said)
    if "forbidden" in said.text:
        raise AnswerRefused
    if "bug" in said.text:
        raise ValueError(asked.run.id)
    return said.text.replace("secret", "***") if "secret" in said.text else None


async def retrieve(asked: Asked) -> list[Passage]:
    """Find what the shop says about it."""
    question = asked.question
    if "bug" in question:
        raise ValueError(question)
    if "returns" not in question:
        return []
    url = "https://shop.example/returns"
    return [
        Passage(text="Thirty days.", url=url, title="Returns"),
        Passage(text="With the receipt.", url=url, title="Returns"),
    ]


def not_async() -> None:
    """Be no hook."""
