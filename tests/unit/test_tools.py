"""Tools: what a model is told of a function, and what it hears when one is run."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

from chatkeep.errors import SetupError
from chatkeep.events import ToolCall
from chatkeep.principal import Principal
from chatkeep.tools import OUTPUT_AT_MOST, ToolContext, ToolFailed, Tools

if TYPE_CHECKING:
    from chatkeep.events import ToolResult

ANA = Principal(user_id="ana", issuer="embedded", subject="ana")


class Item(msgspec.Struct):
    """Something to order."""

    name: str
    number: int = 1


async def ran(tools: Tools, name: str, arguments: object) -> ToolResult:
    """Run the tool *name* as Ana."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = ToolCall(call_id="c", name=name, arguments=text)
    context = ToolContext(who=ANA, conversation_id="conversation", run_id="r", call_id="c")
    return await tools.run(call, context)


def test_model_is_told_name_purpose_and_types() -> None:
    """The schema is that of the parameters; the context is none of them."""
    tools = Tools()

    @tools.tool
    async def order(
        context: ToolContext,
        items: list[Item],
        where: Annotated[str, msgspec.Meta(description="A street.")] = "home",
    ) -> str:
        """Order things."""
        return f"{context.who.user_id} {items} {where}"

    (offered,) = tools.offered()
    assert (offered.name, offered.description) == ("order", "Order things.")
    schema = offered.parameters
    assert schema["type"] == "object"
    assert schema["required"] == ["items"]
    assert schema["properties"]["where"]["description"] == "A street."
    assert "context" not in schema["properties"]
    assert schema["$defs"]["Item"]["properties"]["number"]["type"] == "integer"


async def test_function_is_called_with_what_fits_and_as_whom_it_is_for() -> None:
    """Async or not, with the caller that the request had."""
    tools = Tools()

    @tools.tool
    async def whoami(context: ToolContext) -> str:
        """Say who asks."""
        return context.who.user_id

    @tools.tool(name="sum")
    def add(one: int, other: int = 1) -> dict[str, Any]:
        """Add."""
        return {"sum": one + other, "thread": threading.current_thread().name}

    assert (await ran(tools, "whoami", "")).output == "ana"
    added = (await ran(tools, "sum", {"one": 2})).output
    assert added["sum"] == 3
    assert added["thread"] != threading.current_thread().name


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        (r"\u0000 stands for a NUL", r"\u0000 stands for a NUL"),
        ("a\x00b", "ab"),
        ("\\\x00\x00\\u0000", r"\\u0000"),
        ({"\x00a": ["\x00"]}, {"a": [""]}),
    ],
)
async def test_no_nul_is_kept_and_nothing_else_is_lost(output: object, kept: object) -> None:
    """PostgreSQL stores none; what only looks like one stays, and breaks nothing."""
    tools = Tools()

    @tools.tool
    async def say() -> object:
        """Say it."""
        return output

    assert (await ran(tools, "say", {})).output == kept


async def test_what_is_nested_too_deep_is_no_output() -> None:
    """What one part of a program reads, another one that begins deeper could not."""
    tools = Tools()

    @tools.tool
    async def nest(depth: int) -> object:
        """Nest."""
        return json.loads("[" * depth + "]" * depth)

    assert (await ran(tools, "nest", {"depth": 60})).error is None
    assert (
        await ran(tools, "nest", {"depth": 70})
    ).error == "The tool's answer is nested too deep."
    assert (await ran(tools, "nest", {"depth": 900})).error is not None


@pytest.mark.parametrize(
    "arguments", [{"one": "2"}, {"one": 2, "more": 1}, {}, "nonsense", [2], {"one": 1e400}]
)
async def test_arguments_that_do_not_fit_are_told_to_the_model(arguments: object) -> None:
    """The function is not called, and no value is echoed."""
    tools, called = Tools(), []

    @tools.tool
    def count(one: int) -> None:
        """Count."""
        called.append(one)

    result = await ran(tools, "count", arguments)
    assert result.error is not None
    assert result.error.startswith("The arguments do not fit")
    assert not called


async def test_why_a_tool_failed_can_be_kept_and_sent() -> None:
    """Whatever it quotes: no NUL, no half of a pair, and no more than an output may have."""
    tools = Tools()

    @tools.tool
    async def quoting(said: str) -> None:
        """Refuse."""
        raise ToolFailed(f"There is no {said}.")

    result = await ran(tools, "quoting", json.dumps({"said": "a\x00b"}))
    assert result.error == "There is no ab."

    @tools.tool
    async def odd() -> None:
        """Refuse."""
        raise ToolFailed("half \ud800 " + "x" * OUTPUT_AT_MOST)

    error = (await ran(tools, "odd", "{}")).error
    assert error is not None
    assert error.startswith("half ? x")
    assert len(error.encode()) == OUTPUT_AT_MOST


async def test_what_goes_wrong_is_a_result() -> None:
    """Its own words for a failure it foresaw; of any other, and of time, only that it was."""
    tools = Tools()

    @tools.tool
    async def picky() -> None:
        """Refuse."""
        raise ToolFailed("There is no such order.")

    @tools.tool
    async def broken() -> None:
        """Break."""
        raise RuntimeError("password=hunter2")

    @tools.tool(timeout_s=0.01)
    async def slow() -> None:
        """Never end."""
        await asyncio.Event().wait()

    @tools.tool
    async def odd() -> object:
        """Return what is no JSON."""
        return object()

    @tools.tool
    async def talkative() -> str:
        """Say far too much."""
        return "x" * (OUTPUT_AT_MOST + 1)

    @tools.tool
    async def leaves() -> None:
        """End the program, as what reads a command line does."""
        sys.exit(2)

    @tools.tool
    def leaves_too() -> None:
        """End the program, from a thread."""
        sys.exit(2)

    @tools.tool
    async def lets_go() -> None:
        """Wait for what was cancelled, and not by whoever cancels the tool."""
        given_up = asyncio.ensure_future(asyncio.sleep(60))
        given_up.cancel()
        await given_up

    names = ("picky", "broken", "leaves", "leaves_too", "lets_go", "slow", "none")
    said = [(await ran(tools, one, {})).error for one in names]
    assert said == [
        "There is no such order.",
        *["The tool failed."] * 4,
        "The tool took too long.",
        "There is no tool 'none'.",
    ]
    assert "JSON" in str((await ran(tools, "odd", {})).error)
    assert "bytes" in str((await ran(tools, "talkative", {})).error)


def test_registry_refuses_what_no_model_could_use() -> None:
    """Two tools of one name, and a parameter without a type."""
    tools = Tools()
    tools.client_tool("place", "Where the person is.", {"type": "object"})

    def untyped(one) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 -- that is the mistake
        """Take anything."""

    with pytest.raises(SetupError, match="place"):
        tools.client_tool("place", "Again.", {})
    with pytest.raises(SetupError, match="one"):
        tools.tool(untyped)


def test_context_is_nothing_that_a_model_can_fill_in() -> None:
    """It is the first parameter, or the tool is refused with what to do."""

    async def last(order: int, context: ToolContext) -> str:
        return f"{context} {order}"

    async def maybe(context: ToolContext | None, order: int) -> str:
        return f"{context} {order}"

    for one in (last, maybe):
        with pytest.raises(SetupError, match=f"ToolContext of the tool {one.__name__} must be its"):
            Tools().tool(one)


def test_parameter_without_a_name_is_refused() -> None:
    """What the model writes is handed over by name."""

    async def several(context: ToolContext, *orders: int) -> str:
        return f"{context} {orders}"

    async def others(**orders: int) -> str:
        return f"{orders}"

    async def nameless(order: int, /) -> str:
        return f"{order}"

    for one in (several, others, nameless):
        with pytest.raises(SetupError, match=f"of the tool {one.__name__} cannot be given by name"):
            Tools().tool(one)


@pytest.mark.parametrize("name", ["order status", "größe", "", "x" * 65, "shop.order"])
def test_name_that_providers_refuse_is_refused_at_the_start(name: str) -> None:
    """They would refuse each question that offers it."""
    with pytest.raises(SetupError, match="A tool cannot be called"):
        Tools().client_tool(name, "Where the person is.", {"type": "object"})
