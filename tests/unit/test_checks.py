"""Checks around whoever answers: what they see, what they change, and that they fail closed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chatkeep.answering.charges import _spoken
from chatkeep.answering.checks import CheckedAfter, CheckedBefore, Heard, Instead
from chatkeep.answering.live import LiveAnswer
from chatkeep.answering.parts import Part
from chatkeep.answering.responders import Asked
from chatkeep.answering.retrieval import AT_MOST, Grounded, Passage
from chatkeep.config import Settings
from chatkeep.errors import (
    AnswerRefused,
    CheckFailed,
    MessageRefused,
    RetrievalFailed,
    SetupError,
)
from chatkeep.events import Done, ReasoningDelta, Source, TextDelta, ToolCall, Usage, Withheld
from chatkeep.extensions import check_hooks
from chatkeep.hooks import Hook
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.runs import Address
from tests import shop_checks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from chatkeep.answering.responders import Responder
    from chatkeep.errors import ChatkeepError
    from chatkeep.events import ReplyEvent

RUN = Address(id="r", conversation_id="c", message_id="m", user_message_id="q")
DONE = Done(finish_reason="stop")


def asking(text: str) -> Asked:
    """Return a turn with one question."""
    messages = [
        PromptMessage(role="system", text="Be kind."),
        PromptMessage(role="user", text=text),
    ]
    prompt = Prompt(messages=messages, settings=ModelSettings(model="m"))
    return Asked(prompt=prompt, who=None, run=RUN)


class Playing:
    """A responder that yields what it was given, and notes what it was asked."""

    def __init__(self, *events: ReplyEvent) -> None:
        self.events = events
        self.asked: list[Asked] = []

    async def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Yield it."""
        self.asked.append(asked)
        for event in self.events:
            yield event


def hook(
    function: Callable[..., Awaitable[Any]], failure: type[ChatkeepError] | None = CheckFailed
) -> Hook[Any]:
    """Return *function* as the settings would name it."""
    return Hook(setting="CHECK", function=function, timeout_s=0.05, failure=failure)


async def heard(responder: Responder, asked: Asked) -> list[ReplyEvent]:
    """Return everything that *responder* yields."""
    async with aclosing(responder.respond(asked)) as events:
        return [event async for event in events]


def shown(events: Sequence[ReplyEvent]) -> list[str]:
    """Return the runs of text that readers see."""
    return [one.text for one in events if isinstance(one, TextDelta)]


async def test_no_word_is_seen_before_it_was_checked_whole() -> None:
    """The pieces of an answer are held back, checked together, and shown as one."""
    shop_checks.heard.clear()
    inner = Playing(TextDelta(text="a sec"), TextDelta(text="ret word"), Usage(), DONE)
    events = await heard(CheckedAfter(inner, hook(shop_checks.after)), asking("?"))
    assert shown(events) == ["a *** word"]
    assert [one.text for one in shop_checks.heard] == ["a secret word"]
    assert events[-1] == DONE


async def test_text_before_a_tool_is_checked_before_the_tool_is_told_of() -> None:
    """Each run of text between other events is one look; the second knows the first."""
    shop_checks.heard.clear()
    call = ToolCall(call_id="1", name="look", arguments="{}")
    inner = Playing(TextDelta(text="I look."), call, TextDelta(text="Found."), DONE)
    events = await heard(CheckedAfter(inner, hook(shop_checks.after)), asking("?"))
    kinds = [type(one) for one in events if not isinstance(one, Withheld)]
    assert kinds == [TextDelta, ToolCall, TextDelta, Done]
    assert shop_checks.heard[1] == Heard(text="Found.", shown="I look.")


async def test_reasoning_that_nobody_checked_is_not_shown() -> None:
    """A model thinks aloud about what it must not say."""
    inner = Playing(ReasoningDelta(text="the secret"), TextDelta(text="Hi."), DONE)
    events = await heard(CheckedAfter(inner, hook(shop_checks.after)), asking("?"))
    assert not [one for one in events if isinstance(one, ReasoningDelta)]


async def test_sentences_are_shown_as_they_end() -> None:
    """What was shown stays; a refused sentence ends the answer before it is seen."""
    pieces = ("One is fine. Tw", "o costs 3.50 too.\nThe for", "bidden. Four.")
    inner = Playing(*(TextDelta(text=one) for one in pieces), DONE)
    checked = CheckedAfter(inner, hook(shop_checks.after), sentences=True)
    seen: list[ReplyEvent] = []
    async with aclosing(checked.respond(asking("?"))) as events:
        with pytest.raises(AnswerRefused):
            await _collect(events, seen)
    assert shown(seen) == ["One is fine. ", "Two costs 3.50 too.\n"]


async def _collect(events: AsyncGenerator[ReplyEvent, None], seen: list[ReplyEvent]) -> None:
    async for event in events:
        seen.append(event)  # noqa: PERF401 -- what came before a refusal counts


async def test_a_sentence_without_an_end_is_looked_at_all_the_same() -> None:
    """Nothing is held without bound."""
    inner = Playing(TextDelta(text="x" * 2001), TextDelta(text="y"), DONE)
    checked = CheckedAfter(inner, hook(shop_checks.after), sentences=True)
    assert shown(await heard(checked, asking("?"))) == ["x" * 2001, "y"]


@pytest.mark.parametrize("words", ["a bug", "too slow"])
@pytest.mark.parametrize("failure", [CheckFailed, None])
async def test_check_that_gives_no_verdict_lets_nothing_past(
    words: str, failure: type[ChatkeepError] | None
) -> None:
    """Unless the operator said otherwise; what it raised is told to nobody."""
    inner = Playing(TextDelta(text="Hi."), DONE)
    checked = CheckedBefore(inner, hook(shop_checks.before, failure))
    if failure is None:
        assert shown(await heard(checked, asking(words))) == ["Hi."]
        return
    with pytest.raises(CheckFailed) as raised:
        await heard(checked, asking(words))
    assert words not in raised.value.detail
    assert inner.asked == []


async def test_answer_in_the_place_of_the_models_costs_nothing() -> None:
    """No model is asked, and the provider's count of nothing is believed."""
    inner = Playing(TextDelta(text="Hi."), DONE)
    events = await heard(CheckedBefore(inner, hook(shop_checks.before)), asking("Your hours?"))
    assert shown(events) == ["We are open from 9 to 5."]
    assert inner.asked == []
    live = LiveAnswer(user_id="u", address=RUN, model="m")
    for event in events:
        live.add(event)
    assert live.usage != Usage()


async def test_what_was_held_back_is_charged_and_not_shown() -> None:
    """Whoever stops an answer before it was checked has used it up to there."""
    inner = Playing(TextDelta(text="four"), TextDelta(text="more"))
    live = LiveAnswer(user_id="u", address=RUN, model="m")
    for event in await heard(CheckedAfter(inner, hook(shop_checks.after)), asking("?")):
        live.add(event)
    assert (live.content, _spoken(live)) == ("", 8)
    whole = Playing(TextDelta(text="a secret"), DONE)
    live = LiveAnswer(user_id="u", address=RUN, model="m")
    for event in await heard(CheckedAfter(whole, hook(shop_checks.after)), asking("?")):
        live.add(event)
    assert (live.content, _spoken(live)) == ("a ***", len("a secret"))


async def test_passages_stand_before_the_question_and_not_among_the_orders() -> None:
    """What was found is the person's material; the operator's prompt is as it was."""
    inner = Playing(TextDelta(text="Hi."), DONE)
    events = await heard(Grounded(inner, hook(shop_checks.retrieve)), asking("On returns?"))
    assert events[0] == Source(source_id="1", url="https://shop.example/returns", title="Returns")
    assert not isinstance(events[1], Source)
    roles = [one.role for one in inner.asked[0].prompt.messages]
    assert roles == ["system", "user", "user"]
    found = inner.asked[0].prompt.messages[1].text
    assert "[1] Returns (https://shop.example/returns)\nThirty days." in found
    assert "[2]" in found


async def test_answer_that_goes_on_names_no_source_twice() -> None:
    """It is looked up again for the model, and not shown again."""
    known = Source(source_id="1", url="https://shop.example/returns")
    asked = replace(asking("On returns?"), begun=[Part("source", source=known)])
    inner = Playing(TextDelta(text="Hi."), DONE)
    events = await heard(Grounded(inner, hook(shop_checks.retrieve)), asked)
    assert not [one for one in events if isinstance(one, Source)]
    assert "Thirty days." in inner.asked[0].prompt.messages[1].text


async def test_the_model_is_not_given_more_than_there_is_room_for() -> None:
    """However much is found."""

    async def all_of_it(_: Asked) -> list[Passage]:
        await asyncio.sleep(0)
        return [Passage(text="x" * 20_000, url=f"https://x.example/{n}") for n in range(3)]

    inner = Playing(DONE)
    events = await heard(Grounded(inner, hook(all_of_it)), asking("?"))
    assert len([one for one in events if isinstance(one, Source)]) == 2
    assert inner.asked[0].prompt.messages[1].text.count("x" * 100) <= AT_MOST / 100


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "/relative", ""])
def test_source_is_never_a_program(url: str) -> None:
    """Clients make links of it."""
    with pytest.raises(ValueError, match="http"):
        Passage(text="x", url=url)


@pytest.mark.parametrize("setting", ["BEFORE", "AFTER", "RETRIEVER"])
def test_hook_that_is_none_stops_the_start(setting: str) -> None:
    """And the setting is named."""
    with pytest.raises(SetupError, match=f"{setting}: .*not_async is no async function"):
        check_hooks(Settings.from_env({setting: "tests.shop_checks:not_async"}))


def test_titles_are_not_asked_for_around_a_check() -> None:
    """A model for titles would hear what the check keeps from models, and say what it likes."""
    environ = {"TITLE_MODEL": "gpt-4o-mini", "AFTER": "tests.shop_checks:after"}
    with pytest.raises(SetupError, match="TITLE_MODEL would hear and say what AFTER did not"):
        Settings.from_env(environ)


@pytest.mark.parametrize("said", [False, True, "No.", MessageRefused, MessageRefused(), Instead])
async def test_verdict_that_is_none_lets_nothing_past(
    said: object, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that is returned in place of being raised, say: whoever wrote it did not agree."""

    async def before(_: Asked) -> object:
        await asyncio.sleep(0)
        return said

    inner = Playing(TextDelta(text="Hi."), DONE)
    with pytest.raises(CheckFailed):
        await heard(CheckedBefore(inner, hook(before)), asking("?"))
    assert inner.asked == []
    assert "CHECK returned" in caplog.text


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("my PIN is 4711", "str of 14 characters"),
        (b"my PIN is 4711", "bytes of 14"),
        (["my PIN is 4711", 4711], "list of 2 (int, str)"),
        (("my PIN is 4711",) * 5, "tuple of 5 (str)"),
        ({"my PIN is 4711": "4711"}, "dict of 1"),
        (MessageRefused("my PIN is 4711"), "MessageRefused"),
        (Instead, "the class Instead"),
        ([], "list of 0"),
        (4711, "int"),
    ],
)
async def test_log_has_the_kind_of_an_odd_verdict_and_no_word_of_it(
    said: object, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a check returns by mistake is often what it was given: somebody's message."""

    async def before(_: Asked) -> object:
        await asyncio.sleep(0)
        return said

    with pytest.raises(CheckFailed):
        await heard(CheckedBefore(Playing(DONE), hook(before)), asking("?"))
    assert f"CHECK returned something of another kind: {kind}\n" in caplog.text
    assert "PIN" not in caplog.text
    assert "4711" not in caplog.text


@pytest.mark.parametrize("said", [False, AnswerRefused()])
async def test_check_of_an_answer_that_returns_no_text_shows_none(said: object) -> None:
    """What was held back stays there, and the client is told why."""

    async def after(_: Asked, __: Heard) -> object:
        await asyncio.sleep(0)
        return said

    inner = Playing(TextDelta(text="Hi."), DONE)
    with pytest.raises(CheckFailed):
        await heard(CheckedAfter(inner, hook(after)), asking("?"))


@pytest.mark.parametrize("failure", [RetrievalFailed, None])
@pytest.mark.parametrize("found", ["a text", ["a text"], {"text": "a"}])
async def test_what_are_no_passages_is_a_look_up_that_failed(
    found: object, failure: type[ChatkeepError] | None
) -> None:
    """The operator has said what becomes of the answer then."""

    async def retrieve(_: Asked) -> object:
        await asyncio.sleep(0)
        return found

    grounded = Grounded(Playing(TextDelta(text="Hi."), DONE), hook(retrieve, failure))
    if failure is None:
        assert shown(await heard(grounded, asking("?"))) == ["Hi."]
        return
    with pytest.raises(RetrievalFailed):
        await heard(grounded, asking("?"))


@pytest.mark.parametrize(
    "error", [TimeoutError("of its own"), asyncio.CancelledError("of its own"), SystemExit(1)]
)
async def test_what_a_check_raises_is_told_as_it_is(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has let go itself is not given up by us, and `sys.exit` in it ends no server."""

    async def before(_: Asked) -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(CheckFailed):
        await heard(CheckedBefore(Playing(DONE), hook(before)), asking("?"))
    assert "CHECK failed" in caplog.text
    assert type(error).__name__ in caplog.text
