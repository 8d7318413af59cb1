"""An answer while it is made: whoever reads, and whenever, reads the same."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from chatkeep.answering import live
from chatkeep.answering.live import LiveAnswer
from chatkeep.answering.parts import Growth, stored, unstored
from chatkeep.answering.reading import (
    ApprovalNeeded,
    Ended,
    PartBegan,
    PartEnded,
    PartGrew,
    Reader,
    SourceShown,
    StepBegan,
    StillWorking,
    ToolAnswered,
    ToolCalled,
)
from chatkeep.events import (
    ApprovalAsked,
    Done,
    NextStep,
    ReasoningDelta,
    Source,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from chatkeep.runs import Address, Ending
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from chatkeep.answering.parts import Part
    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.events import ReplyEvent

ADDRESS = Address(id="r", conversation_id="c", message_id="m", user_message_id="q")
ENDING = Ending(state="done", finish_reason="stop")
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5)
RESULTS: dict[str, list[ReplyEvent]] = {
    "unanswered": [],
    "waiting": [ApprovalAsked(call_id="", approval_id="a")],
    "answered": [ToolResult(call_id="", output={"seen": [1, None]})],
    "failed": [ToolResult(call_id="", error="No sky.")],
    "denied": [
        ApprovalAsked(call_id="", approval_id="a"),
        ToolResult(call_id="", denied=True),
    ],
}


def _tool(after: str) -> list[ReplyEvent]:
    call: ReplyEvent = ToolCall(call_id="", name="look", arguments="{}")
    return [call, *RESULTS[after]]


_STEPS: st.SearchStrategy[list[ReplyEvent]] = st.one_of(
    TEXTS.map(lambda text: [TextDelta(text=text)]),
    TEXTS.map(lambda text: [ReasoningDelta(text=text)]),
    st.sampled_from(sorted(RESULTS)).map(_tool),
    st.just([Source(source_id="s", url="https://example.com/", title="Example")]),
    st.just([NextStep()]),
)


def _numbered(steps: list[list[ReplyEvent]]) -> list[ReplyEvent]:
    """Give each tool call, and what belongs to it, an id of its own."""
    return [
        replace(event, call_id=str(number))
        if isinstance(event, ToolCall | ToolResult | ApprovalAsked)
        else event
        for number, events in enumerate(steps)
        for event in events
    ]


SAID = st.lists(_STEPS, max_size=8).map(_numbered)


def answer_of(events: Sequence[ReplyEvent]) -> LiveAnswer:
    """Return an answer in which *events* have happened."""
    answer = LiveAnswer(user_id="u", address=ADDRESS, model="m")
    for event in events:
        answer.add(event)
    return answer


async def read(answer: LiveAnswer) -> list[AnswerEvent]:
    """Return everything there is to read until the end."""
    return [event async for event in answer.follow()]


def told(events: Sequence[AnswerEvent]) -> list[tuple[int, str, str]]:
    """Return each part that *events* tell of: its number, kind and whole content."""
    parts: dict[int, tuple[str, str]] = {}
    opened: list[int] = []
    for event in events:
        match event:
            case PartBegan(index=index, kind=kind):
                assert index not in parts
                parts[index] = (kind, "")
                opened.append(index)
            case PartGrew(index=index, kind=kind, text=text):
                assert opened[-1] == index
                assert text
                parts[index] = (kind, parts[index][1] + text)
            case PartEnded(index=index):
                assert opened.pop() == index
            case ToolCalled(index=index, call=call):
                assert index not in parts
                parts[index] = ("tool", call.arguments)
            case ApprovalNeeded(index=index, asked=asked):
                parts[index] = ("tool", f"{parts[index][1]} {asked.approval_id}")
            case ToolAnswered(index=index, result=result):
                parts[index] = ("tool", f"{parts[index][1]} {result}")
            case SourceShown() | StepBegan():
                parts[event.index] = _one_shot(event)
            case Ended() | StillWorking():
                pass
    assert not opened
    return [(index, *part) for index, part in sorted(parts.items())]


def _one_shot(event: SourceShown | StepBegan) -> tuple[str, str]:
    return ("source", str(event.source)) if isinstance(event, SourceShown) else ("step", "")


def whole(parts: Sequence[Part]) -> list[tuple[int, str, str]]:
    """Return *parts* as `told` does."""
    return [(index, part.kind, _content(part)) for index, part in enumerate(parts)]


def _content(part: Part) -> str:
    if part.call is not None:
        said = (part.call.arguments, part.approval_id, part.result)
        return " ".join(str(one) for one in said if one is not None)
    return part.text if part.source is None else str(part.source)


@given(SAID, st.lists(st.integers(0, 12), max_size=4))
def test_reader_reads_all_however_it_comes_by(said: list[ReplyEvent], stops: list[int]) -> None:
    """Reading at any moments gives the same parts, each opened, filled and closed once."""
    answer, reader = answer_of([]), Reader()
    events: list[AnswerEvent] = []
    for number, event in enumerate(said):
        answer.add(event)
        if number in stops:
            events += reader.advance(answer.parts, ended=False)
    events += reader.advance(answer.parts, ended=True)
    assert told(events) == whole(answer.parts)
    assert "".join(text for _, kind, text in told(events) if kind == "text") == answer.content


@given(SAID, st.lists(st.integers(0, 12), max_size=4))
def test_checkpoints_tell_the_same_elsewhere(said: list[ReplyEvent], kept: list[int]) -> None:
    """Who sees only what is stored now and then reads the same parts in the end."""
    answer, growth, reader = answer_of([]), Growth(), Reader()
    events: list[AnswerEvent] = []
    for number, event in enumerate(said):
        answer.add(event)
        if number in kept:
            growth.take(unstored(answer.content, answer.stored_parts()))
            events += reader.advance(growth.parts, ended=False)
    growth.take(unstored(answer.content, answer.stored_parts()))
    events += reader.advance(growth.parts, ended=True)
    assert told(events) == whole(answer.parts)


@given(SAID)
def test_stored_parts_come_back(said: list[ReplyEvent]) -> None:
    """What is kept is what was said; a plain text is kept as that alone."""
    answer = answer_of(said)
    parts = stored(answer.parts)
    assert whole(unstored(answer.content, parts)) == whole(answer.parts)
    if all(isinstance(event, TextDelta) for event in said):
        assert parts is None


def test_reader_who_has_the_beginning_gets_the_rest() -> None:
    """An answer that goes on is told from there, the answer of a tool that waited included."""
    call = ToolCall(call_id="1", name="look", arguments="{}")
    asked = ApprovalAsked(call_id="1", approval_id="a")
    parts = answer_of([TextDelta(text="Hm."), call, asked]).parts
    answer = LiveAnswer(user_id="u", address=ADDRESS, model="m", parts=parts)
    reader = Reader(len(parts), [1])
    answer.add(ToolResult(call_id="1", output=1))
    answer.add(TextDelta(text="Seen."))
    events = list(reader.advance(answer.parts, ended=True))
    assert [type(one) for one in events] == [ToolAnswered, PartBegan, PartGrew, PartEnded]
    assert answer.content == "Hm.Seen."


def test_part_of_the_future_is_shown_as_text() -> None:
    """A part whose type an older version does not know loses nothing else."""
    parts = unstored("", [{"type": "data-weather", "data": 1}, {"type": "text", "text": "x"}])
    assert [part.kind for part in parts] == ["text", "text"]


def test_what_neither_database_nor_utf8_can_hold_is_left_out() -> None:
    """NUL and halves of surrogate pairs never get into an answer; emoji do."""
    answer = answer_of([TextDelta(text="a\x00b\ud83d c 👩‍👧"), TextDelta(text="\x00")])
    assert answer.content == "ab? c 👩‍👧"


async def test_late_reader_gets_everything_and_then_the_rest() -> None:
    """A reader who comes in the middle begins at the beginning, in one piece."""
    answer = answer_of([TextDelta(text="a"), TextDelta(text="b")])
    reading = asyncio.create_task(read(answer))
    await asyncio.sleep(0)
    answer.add(TextDelta(text="c"))
    await asyncio.sleep(0)
    answer.end(ENDING)
    events = await reading
    assert told(events) == [(0, "text", "abc")]
    assert events[1] == PartGrew(index=0, kind="text", text="ab")
    assert events[-1] == Ended(ending=ENDING)


async def test_reader_of_an_ended_answer_is_not_kept_waiting() -> None:
    """After the end everything is there at once."""
    answer = answer_of([TextDelta(text="a")])
    answer.end(ENDING)
    async with asyncio.timeout(PATIENCE_S):
        assert told(await read(answer)) == [(0, "text", "a")]


async def test_hundred_readers_read_the_same() -> None:
    """However many follow, and however slowly, each gets the whole answer."""
    answer = answer_of([])

    async def slowly(pauses: int) -> list[AnswerEvent]:
        events = []
        async for event in answer.follow():
            events.append(event)
            for _ in range(pauses):
                await asyncio.sleep(0)
        return events

    readers = [asyncio.create_task(slowly(number)) for number in range(100)]
    for number in range(50):
        answer.add(TextDelta(text=f"{number} ") if number % 7 else ReasoningDelta(text="hm"))
        await asyncio.sleep(0)
    answer.end(ENDING)
    for reader in readers:
        assert told(await reader) == whole(answer.parts)
    assert not answer._waiting


async def test_who_waits_for_the_whole_is_given_all_that_is_text() -> None:
    """Once, at its end, whenever they came; one who leaves before takes nothing from the others."""
    answer = answer_of([ReasoningDelta(text="Hm"), TextDelta(text="One ")])
    waiting = [asyncio.create_task(answer.whole()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    answer.add(TextDelta(text="two"))
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting[1:])
    answer.end(ENDING)
    expected = ("One two", ENDING)
    assert await asyncio.gather(*waiting[1:], answer.whole()) == [expected] * 3
    assert waiting[0].cancelled()


async def test_reader_who_leaves_is_forgotten() -> None:
    """A reader who stops reading leaves nothing behind."""
    answer = answer_of([TextDelta(text="a")])
    async with aclosing(answer.follow()) as events:
        await anext(events)
        assert answer._waiting
    assert not answer._waiting


async def test_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing happens a reader hears that the answer is still being made."""
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.01)
    answer = answer_of([])
    async with aclosing(answer.follow()) as events:
        assert await anext(events) == StillWorking()
        assert await anext(events) == StillWorking()


def test_usage_and_the_end_are_no_parts() -> None:
    """What the provider counts, and which model answered, is kept beside the text."""
    answer = answer_of(
        [TextDelta(text="a"), Usage(prompt_tokens=1), Done(finish_reason="stop", model="other")]
    )
    assert (answer.usage.prompt_tokens, answer.model) == (1, "other")
    assert len(answer.parts) == 1


async def test_source_that_is_no_page_is_left_out() -> None:
    """Clients make links of sources, and a link can be a program."""
    answer = LiveAnswer(user_id="u", address=ADDRESS, model="m")
    for url in (
        "javascript:alert(1)",
        " java\nscript:alert(1)",
        "data:text/html,x",
        "/x",
        "//[",
        "",
    ):
        answer.add(Source(source_id="1", url=url))
    answer.add(Source(source_id="2", url="https://example.com/"))
    answer.end(ENDING)
    async with aclosing(answer.follow()) as events:
        shown = [one.source.url async for one in events if isinstance(one, SourceShown)]
    assert shown == ["https://example.com/"]
