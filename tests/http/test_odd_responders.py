"""A responder of the application's that hands over what nobody can keep: whose fault it is."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest

from chatkeep.events import (
    Answering,
    ApprovalAsked,
    Done,
    Paused,
    Source,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from tests.http.test_ai_sdk import asked, submit
from tests.http.test_answers import CHAT, begin, messages
from tests.http.test_openai_api import MODEL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep import Asked
    from chatkeep.events import ReplyEvent
    from tests.http.conftest import StartNode
    from tests.serving import Node

SECRET: Final = "canary"
CALL: Final = ToolCall(call_id="c1", name="look", arguments="{}")
WEB: Final = "https://shop.example/"


def result(output: object) -> ToolResult:
    """What a tool said."""
    return ToolResult(call_id="c1", output=output)


_DEEP: Any = SECRET
for _ in range(100):
    _DEEP = [_DEEP]

#: What is handed over, and what the log says is wrong with it.
ODD: Final[dict[str, tuple[Any, str]]] = {
    "output NUL": (result(f"{SECRET}\x00"), "a ToolResult whose output"),
    "output NUL in a name": (result({f"{SECRET}\x00": 1}), "a ToolResult whose output"),
    "output half": (result([f"{SECRET}\ud800"]), "a ToolResult whose output"),
    "output NaN": (result({SECRET: float("nan")}), "a ToolResult whose output"),
    "output infinite": (result([SECRET, float("inf")]), "a ToolResult whose output"),
    "output bytes": (result(SECRET.encode()), "a ToolResult whose output"),
    "output set": (result({SECRET}), "a ToolResult whose output"),
    "output deep": (result(_DEEP), "a ToolResult whose output"),
    "output huge": (result([SECRET, 10**5000]), "a ToolResult whose output"),
    "error": (ToolResult(call_id="c1", error=f"{SECRET}\x00"), "a ToolResult whose error"),
    "call id": (ToolCall(call_id=f"{SECRET}\x00", name="n", arguments="{}"), "a ToolCall whose c"),
    "name": (ToolCall(call_id="c2", name=f"{SECRET}\udc00", arguments="{}"), "a ToolCall whose n"),
    "arguments": (
        ToolCall(call_id="c2", name="n", arguments={SECRET: 1}),  # type: ignore[arg-type]  # as a bug would
        "a ToolCall whose arguments",
    ),
    "title": (Source(source_id="1", url=WEB, title=f"{SECRET}\x00"), "a Source whose title"),
    "address": (Source(source_id="1", url=f"{WEB}{SECRET}\x00"), "a Source whose url"),
    "approval": (ApprovalAsked(call_id="c1", approval_id=f"{SECRET}\x00"), "an? ApprovalAsked"),
    "paused": (Paused(state=f"{SECRET}\ud800"), "a Paused whose state"),
    "model": (Done(finish_reason="stop", model=f"{SECRET}\x00"), "a Done whose model"),
    "reason": (Done(finish_reason=f"{SECRET}\x00"), "a Done whose finish_reason"),  # type: ignore[arg-type]  # as a bug would
    "answering": (Answering(model=f"{SECRET}\x00", upstream="x"), "an? Answering whose model"),
    "no event": (SECRET, "a str, which is no event"),
    "None": (None, "a NoneType, which is no event"),
}


async def respond(turn: Asked) -> AsyncGenerator[ReplyEvent, None]:
    """Hand over what the question names, in the middle of an answer."""
    yield TextDelta(text="So far.")
    yield CALL
    yield Usage(prompt_tokens=3, completion_tokens=2, cost=Decimal(0))
    odd, _ = ODD.get(turn.question, (result("good"), ""))
    yield odd
    yield TextDelta(text="Well.")
    yield Done(finish_reason="stop")


@pytest.fixture
async def odd(start: StartNode) -> Node:
    """A node where `respond` answers."""
    return await start(RESPONDER="tests.http.test_odd_responders:respond")


@pytest.mark.parametrize("name", ODD)
async def test_what_cannot_be_kept_is_a_fault_of_the_server(
    odd: Node, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It has a code of its own, what was said before is kept, and the log says whose it was."""
    caplog.set_level(logging.DEBUG)
    client = odd.person().client
    conversation = await begin(client)
    refused = await client.post(
        f"{CHAT}/message", {"conversation_id": conversation, "message": name}
    )
    assert (refused.status, refused.json["code"]) == (500, "responder_broken"), refused.text
    kept = (await messages(client, conversation))[-1]
    assert (kept["status"], kept["content"]) == ("failed", "So far.")
    assert [part["type"] for part in kept["parts"]] == ["text", "dynamic-tool"]
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
    assert len(said) == 1
    wrong = ODD[name][1].replace("an? ", "a ")
    assert f"tests.http.test_odd_responders:respond handed over {wrong}" in said[0]
    assert SECRET not in caplog.text.replace(name, "")
    good = await client.post(
        f"{CHAT}/message", {"conversation_id": conversation, "message": "good"}
    )
    assert (good.status, good.json["message"]) == (200, "So far.Well.")


@pytest.mark.parametrize("name", ["output NUL", "model", "no event"])
async def test_every_surface_words_it_as_its_own(odd: Node, name: str) -> None:
    """A stream ends with the error, a whole answer is a 500 that no client repeats by itself."""
    client = odd.person().client
    async with client.stream("/api/chat", submit(str(uuid4()), asked(name))) as stream:
        events = await stream.rest()
    assert "error" in [one.data["type"] for one in events if isinstance(one.data, dict)]
    asking: dict[str, Any] = {"model": MODEL, "input": name}
    for body in (asking, {**asking, "store": False}):
        whole = await client.post("/v1/responses", body)
        assert (whole.status, whole.json["error"]["code"]) == (500, "responder_broken")
        assert whole.headers["x-should-retry"] == "false"


async def test_what_a_model_wrote_for_a_tool_is_mended(start: StartNode) -> None:
    """Half a pair in it costs that character, on the way to readers and in what is kept."""
    node = await start(RESPONDER="tests.http.test_odd_responders:writes")
    client, chat = node.person().client, str(uuid4())
    async with client.stream("/api/chat", submit(chat, asked("Hi"))) as stream:
        events = await stream.rest()
    assert (stream.status, events[-1].data) == (200, "[DONE]")
    page = await client.get(f"{CHAT}/{chat}")
    [part] = page.json["messages"][-1]["parts"]
    assert part["input"] == {"a": "?b"}


async def writes(turn: Asked) -> AsyncGenerator[ReplyEvent, None]:
    """Ask for a tool with what is not quite text."""
    del turn
    yield ToolCall(call_id="c", name="look", arguments='{"a": "\ud800\x00b"}')
    yield Done(finish_reason="tool-calls")
