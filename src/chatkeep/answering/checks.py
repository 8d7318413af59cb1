"""An application's checks: of a message before it is answered, of an answer before it is seen.

    async def before(asked: Asked) -> Prompt | Instead | None:
        "Refuse what is not about the shop."
        if "weapon" in asked.question:
            raise MessageRefused
        return None

What the check after the model has not seen, no reader sees and nothing keeps: what is kept
is what was shown. It sees text; the model's reasoning is left out where there is such a check.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from chatkeep.events import Done, ReasoningDelta, TextDelta, Usage, Withheld
from chatkeep.llm.model import Prompt

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.answering.responders import Asked, Responder
    from chatkeep.events import ReplyEvent
    from chatkeep.hooks import Hook

#: A sentence that does not end is looked at after so many characters.
_SENTENCE_AT_MOST: Final = 2000
#: Where a sentence ends: at its stop and the space behind it, at a stop of Chinese or
#: Japanese, or at the end of a line.
_SENTENCE: Final = re.compile(r"""[.!?…]["')\]»”’]*\s|[。！？]|\n""")  # noqa: RUF001 -- those stops are meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """What is said in place of an answer; no model is asked."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the model has said and nobody has seen: *text*, after *shown* of the same answer."""

    text: str
    shown: str


class CheckedBefore:
    """Lets *check* look at each turn before *inner* answers it."""

    def __init__(self, inner: Responder, check: Hook[Prompt | Instead | None]) -> None:
        self.inner = inner
        self._check = check

    async def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Answer as the check wants it; see `Responder`.

        Raises:
            MessageRefused: the check does.
            CheckFailed: it gave no verdict.
        """
        verdict = await self._check.ask(asked, fits=_is_verdict)
        if isinstance(verdict, Instead):
            yield TextDelta(text=verdict.text)
            yield Usage(cost=Decimal(0))  # counted, and nothing: nobody estimates it then
            yield Done(finish_reason="content-filter")
            return
        if isinstance(verdict, Prompt):
            asked = replace(asked, prompt=verdict)
        async with aclosing(self.inner.respond(asked)) as events:
            async for event in events:
                yield event


class CheckedAfter:
    """Lets *check* look at what *inner* says before anybody else sees it.

    It is given each run of text between two other events whole, or, when it sees
    *sentences*, as soon as a sentence of it has ended.
    """

    def __init__(
        self, inner: Responder, check: Hook[str | None], *, sentences: bool = False
    ) -> None:
        self.inner = inner
        self._check = check
        self._sentences = sentences

    async def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Answer, with what the check says in place of what it was shown; see `Responder`.

        Raises:
            AnswerRefused: the check does. What it had let through before stays.
            CheckFailed: it gave no verdict.
        """
        held, shown = "", ""
        async with aclosing(self.inner.respond(asked)) as events:
            async for event in events:
                match event:
                    case ReasoningDelta(text=text):
                        yield Withheld(size=_bytes(text))
                        continue
                    case TextDelta(text=text):
                        yield Withheld(size=_bytes(text))
                        held += text
                        end = self._end(held)
                    case Usage():
                        end = 0  # it may stand in the middle of a text
                    case _:
                        end = len(held)
                if end:
                    passed = await self._passed(asked, held[:end], shown)
                    held, shown = held[end:], shown + passed
                    yield Withheld(size=-_bytes(passed))
                    yield TextDelta(text=passed)
                if not isinstance(event, TextDelta):
                    yield event

    async def _passed(self, asked: Asked, text: str, shown: str) -> str:
        heard = Heard(text=text, shown=shown)
        verdict = await self._check.ask(asked, heard, fits=_is_text)
        return text if verdict is None else verdict

    def _end(self, held: str) -> int:
        """How much of *held* can be looked at now."""
        if not self._sentences:
            return 0
        ends = [found.end() for found in _SENTENCE.finditer(held)]
        if ends:
            return ends[-1]
        return len(held) if len(held) > _SENTENCE_AT_MOST else 0


def _is_verdict(said: object) -> bool:
    return isinstance(said, Prompt | Instead)


def _is_text(said: object) -> bool:
    return isinstance(said, str)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
