"""ELIZA: listens, says what she is, tells stories, and never surprises twice."""

from __future__ import annotations

import asyncio
import time

import pytest

from chatkeep.answering.responders import ModelResponder
from chatkeep.config import Settings
from chatkeep.events import Done, ModelEvent, TextDelta, Usage
from chatkeep.extensions import Extensions, answered_by_built_in
from chatkeep.llm.eliza import ELIZA, Eliza
from chatkeep.llm.eliza_script import FALLBACKS, INTRODUCTION, RULES
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.testing import FakeModel
from chatkeep.tools import Tools

GREETING = PromptMessage(role="assistant", text="Hello! How can I help you today?")


async def events_of(*said: str, max_tokens: int | None = None) -> list[ModelEvent]:
    """Answer a conversation of these words: the person's and ELIZA's in turn."""
    messages = [GREETING]
    for number, text in enumerate(said):
        messages.append(PromptMessage(role="assistant" if number % 2 else "user", text=text))
    settings = ModelSettings(model=ELIZA, max_tokens=max_tokens)
    prompt = Prompt(messages=messages, settings=settings)
    return [event async for event in Eliza(pause_s=0).stream(prompt)]


async def answer(*said: str) -> str:
    """Answer without the introduction."""
    text = "".join(event.text for event in await events_of(*said) if isinstance(event, TextDelta))
    return text.removeprefix(INTRODUCTION)


async def test_she_says_once_what_she_is() -> None:
    """And that a key is missing; not again in the same conversation."""
    first = "".join(e.text for e in await events_of("Hi") if isinstance(e, TextDelta))
    assert first.startswith(INTRODUCTION)
    assert ELIZA in first
    assert "no API key is configured" in first
    second = await events_of("Hi", first, "I am fine")
    assert INTRODUCTION not in "".join(e.text for e in second if isinstance(e, TextDelta))


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("I need a holiday.", "Suppose you had a holiday."),
        ("I need you to like my dog", "Suppose you had me to like your dog."),
        ("Well. I'm so tired!", "sorry to hear that you are tired"),
        ("I\N{RIGHT SINGLE QUOTATION MARK}m happy", "What made you happy?"),
        ("i remember MY first bike, yes", "What brings your first bike, yes back"),
        ("I think you are wrong about me", "How sure are you that I am wrong about you?"),
        ("I feel I was right", "When did you last feel you were right?"),
        ("You are very clever", "believe that I am very clever"),
        ("My mother called", "Tell me more about your mother."),
        ("Are you a robot?", "I am a program"),
        ("What is the capital of France?", "What answer would please you most?"),
        ("Xyzzy", FALLBACKS[0]),
        ("   ", "You have not said anything yet."),
        ("{0} {1} {name}", FALLBACKS[0]),
        ("I want {0.__class__} and {x}", "Suppose you had {0."),
    ],
)
async def test_she_turns_words_around(said: str, answered: str) -> None:
    """Keywords, phrases said back from the other side, and braces that are only braces."""
    assert answered in await answer(said)


async def test_same_conversation_gets_the_same_answer_and_repeats_take_turns() -> None:
    """Nothing depends on time or chance."""
    assert await answer("I need rest") == await answer("I need rest")
    turns: list[str] = ["I need rest"]
    answers = []
    for _ in range(3):
        answers.append(await answer(*turns))
        turns += [answers[-1], "I need rest"]
    assert len(set(answers)) == 3


async def test_she_comes_back_to_what_was_personal() -> None:
    """When nothing else fits."""
    said = "my violin broke", "Oh.", "Xyzzy", "Go on.", "Xyzzy"
    assert "you mentioned your violin" in await answer(*said)


@pytest.mark.parametrize(
    ("asked", "fewest", "most"),
    [
        ("Tell me a long story", 420, 800),
        ("write an essay please", 420, 800),
        ("10 words", 420, 600),
        ("Give me a 1500-word text", 1450, 1650),
        ("99999 words", 3000, 3200),
    ],
)
async def test_story_is_long_and_as_long_as_asked(asked: str, fewest: int, most: int) -> None:
    """Long enough to stop in the middle and to come back to."""
    words = (await answer(asked)).split()
    assert fewest <= len(words) <= most
    assert len(set(words)) > 150


async def test_other_words_get_another_story() -> None:
    """Made of the same paragraphs, in another order, with other people."""
    assert len({await answer(f"a story about {thing}") for thing in ("tea", "rain", "bread")}) == 3


async def test_max_tokens_cuts_by_words_and_says_so() -> None:
    """A word counts as a token, in the usage as well."""
    events = await events_of("Tell me a story", max_tokens=7)
    assert len(events) == 9
    assert events[-2:] == [
        Usage(prompt_tokens=11, completion_tokens=7),
        Done(finish_reason="length", model=ELIZA),
    ]


async def test_words_come_one_by_one_and_at_the_set_pace() -> None:
    """Like a person reads."""
    prompt = Prompt(
        messages=[PromptMessage(role="user", text="Hi")],
        settings=ModelSettings(model=ELIZA, max_tokens=5),
    )
    loop = asyncio.get_running_loop()
    started = loop.time()
    said = [e.text async for e in Eliza(pause_s=0.02).stream(prompt) if isinstance(e, TextDelta)]
    assert loop.time() - started >= 0.09
    assert "".join(said) == " ".join(INTRODUCTION.split()[:5]) + " "


def test_every_rule_can_be_said() -> None:
    """No answer asks for a phrase that its pattern does not give."""
    for rule in RULES:
        for text in rule.answers:
            assert text.format("x")
            assert "{0}" not in text or rule.pattern.groups


@pytest.mark.parametrize("text", ["i am " * 5000, "my you " * 5000, " " * 20_000, "a" * 20_000])
async def test_no_text_keeps_her_busy(text: str) -> None:
    """The patterns look at each character a bounded number of times."""
    began = time.process_time()
    assert await answer(text)
    assert time.process_time() - began < 2


def test_she_is_said_to_answer_only_where_nobody_else_does() -> None:
    """Clients are told so, who then name her: not where a model or a program of somebody is."""
    settings, eliza = Settings.from_env({}), Eliza()
    assert answered_by_built_in(Extensions(), settings, model=eliza)
    assert not answered_by_built_in(Extensions(), settings, model=FakeModel(["Hi"]))
    theirs = Settings.from_env({"RESPONDER": "shop.answers:respond"})
    assert not answered_by_built_in(Extensions(), theirs, model=eliza)
    passed_in = Extensions(responder=ModelResponder(eliza, Tools()))
    assert not answered_by_built_in(passed_in, settings, model=eliza)
