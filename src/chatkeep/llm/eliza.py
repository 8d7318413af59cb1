"""The built-in model, `chatkeep/eliza`: talks back without a provider, a key or a network.

It is there so that the first run of Chatkeep works at once, and it says what it is. Its
words are in `eliza_script` and `eliza_story`. The same conversation always gets the same
answer: nothing here depends on time or chance.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from chatkeep.events import Done, TextDelta, Usage
from chatkeep.llm.eliza_script import (
    FALLBACKS,
    INTRODUCTION,
    MEMORIES,
    REFLECTIONS,
    RULES,
    SILENCE,
    Rule,
)
from chatkeep.llm.eliza_story import asks_for_story, tell_story
from chatkeep.llm.model import ModelInfo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import Prompt

ELIZA = "chatkeep/eliza"

#: About how fast a person reads along.
READING_PACE_S = 0.03

_READ_AT_MOST = 2000
_REMEMBERED_AT_MOST = 50
_ECHOED_AT_MOST = 200
_WORD = re.compile(r"\S+\s*")
_SENTENCE_END = re.compile(r"[.!?\n]+")
_PERSONAL = re.compile(r"\bmy ([a-z]+)\b", re.IGNORECASE)
#: The longest first, because "you are" begins with "you".
_REFLECTED = re.compile(
    rf"(?<![\w'])(?:{'|'.join(sorted(REFLECTIONS, key=len, reverse=True))})(?![\w'])",
    re.IGNORECASE,
)


class Eliza:
    """A `Model` made of rules."""

    def __init__(self, *, pause_s: float = READING_PACE_S) -> None:
        """Answer with *pause_s* between words; 0 answers as fast as it is read."""
        self._pause_s = pause_s

    @property
    def name(self) -> str:
        """The name under which it is chosen, too."""
        return ELIZA

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Answer *prompt* word by word; see `Model.stream`. A word counts as a token."""
        words = _WORD.findall(_answer(prompt))
        said = words[: prompt.settings.max_tokens]
        for word in said:
            await asyncio.sleep(self._pause_s)
            yield TextDelta(text=word)
        yield Usage(
            prompt_tokens=sum(len(message.text.split()) for message in prompt.messages),
            completion_tokens=len(said),
        )
        yield Done(finish_reason="stop" if len(said) == len(words) else "length", model=ELIZA)

    async def list_models(self) -> Sequence[ModelInfo]:
        """List the one there is."""
        return [ModelInfo(id=ELIZA, name="ELIZA (built in)")]

    async def aclose(self) -> None:
        """Release nothing: there are no connections."""


def _answer(prompt: Prompt) -> str:
    said = [message.text[:_READ_AT_MOST] for message in prompt.messages if message.role == "user"]
    said = said[-_REMEMBERED_AT_MOST:]
    introduced = any(
        message.role == "assistant" and ELIZA in message.text for message in prompt.messages
    )
    return ("" if introduced else INTRODUCTION) + _reply(said)


def _reply(said: Sequence[str]) -> str:
    """Answer the last of *said*; the ones before decide whose turn it is among the answers."""
    if not said or not said[-1].strip():
        return SILENCE
    if asks_for_story(said[-1]):
        return tell_story(said[-1])
    rule, phrase = _find_rule(said[-1])
    turn = sum(_find_rule(earlier)[0] is rule for earlier in said[:-1])
    if rule is not None:
        return rule.answers[turn % len(rule.answers)].format(_reflected(phrase))
    return _without_a_rule(said, turn)


def _without_a_rule(said: Sequence[str], turn: int) -> str:
    """Every third time, come back to what was personal before."""
    personal = [match[1].lower() for text in said[:-1] for match in _PERSONAL.finditer(text)]
    if personal and turn % 3 == 1:
        return MEMORIES[turn // 3 % len(MEMORIES)].format(personal[-1])
    return FALLBACKS[turn % len(FALLBACKS)]


def _find_rule(text: str) -> tuple[Rule | None, str]:
    """Find the first rule that fits any sentence, and the phrase to say back."""
    # Phones type the other apostrophe.
    sentences = _SENTENCE_END.split(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    for rule in RULES:
        for sentence in sentences:
            if match := rule.pattern.search(sentence):
                return rule, match[1] if rule.pattern.groups else ""
    return None, ""


def _reflected(phrase: str) -> str:
    phrase = " ".join(phrase.strip(" ,;:")[:_ECHOED_AT_MOST].split())
    return _REFLECTED.sub(lambda found: REFLECTIONS[found[0].lower()], phrase)
