"""Functions of others that block: what they say comes back, and one that hangs hurts nobody."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from chatkeep.blocking import NoThread, Threads
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

HANGS = """
import asyncio, threading
from chatkeep.events import ToolCall
from chatkeep.principal import Principal
from chatkeep.tools import ToolContext, Tools

tools = Tools()

@tools.tool(timeout_s=0.05)
def hang() -> str:
    "Never comes back."
    threading.Event().wait()
    return ""

who = Principal(user_id="ana", issuer="embedded", subject="ana")
context = ToolContext(who=who, conversation_id="c", run_id="r", call_id="c")
call = ToolCall(call_id="c", name="hang", arguments="{}")
print(asyncio.run(tools.run(call, context)).error)
"""

said: ContextVar[str] = ContextVar("said")


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What functions wait for; they are let go when the test ends."""
    event = threading.Event()
    yield event
    event.set()


async def test_what_a_function_returns_and_raises_comes_back() -> None:
    """In the context of whoever calls, from another thread."""
    threads = Threads()
    said.set("hello")
    assert await threads.call(said.get) == "hello"
    assert await threads.call(threading.get_ident) != threading.get_ident()
    assert await threads.call(lambda one, *, other: one + other, 1, other=2) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.call(int, "x")


@pytest.mark.parametrize(
    "odd",
    [StopIteration, asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit],
)
async def test_odd_exceptions_end_the_call_and_not_its_caller(odd: type[BaseException]) -> None:
    """What would mean something else to the loop, or end the process, is an error like any."""

    def function() -> None:
        raise odd

    with pytest.raises(RuntimeError):
        await Threads().call(function)


async def test_hanging_functions_take_no_thread_of_anybody_else(
    hanging: threading.Event,
) -> None:
    """Ever so many of them: our own work goes on, and what is too much is told at once."""
    threads = Threads(50)
    calls = [asyncio.create_task(threads.call(hanging.wait)) for _ in range(50)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: "ours") == "ours"
        for one in calls:
            one.cancel()
        assert await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(NoThread):  # whoever waited has left, and they hang all the same
            await threads.call(lambda: None)
        hanging.set()
        while True:
            try:
                assert await threads.call(lambda: "room") == "room"
            except NoThread:
                await asyncio.sleep(0.01)
            else:
                return


async def test_process_ends_although_a_tool_hangs() -> None:
    """Who is told to end does not wait for what never comes back."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGS, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, out.decode().strip()) == (0, "The tool took too long.")
