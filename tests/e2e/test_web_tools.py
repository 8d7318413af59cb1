"""Tools in the web chat: what was used is folded, and what needs a yes waits for it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from uuid import uuid4

import aiohttp
import pytest
from playwright.async_api import expect

from chatkeep.events import Done, Source, TextDelta, ToolCall
from chatkeep.tools import ToolContext, Tools
from tests.e2e.visiting import MARKS, NAMELESS, Visitor, answers, box, stop_button
from tests.gotrue_people import OURS_ALONE
from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from playwright.async_api import Browser, Locator, Page, Route

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import ModelInfo, Prompt
    from tests.postgres_servers import MigratedDatabase

pytestmark = MARKS

tools = Tools()
cancelled: list[int] = []


@tools.tool
async def lookup(_context: ToolContext, order: int) -> str:
    """Say where an order is."""
    return f"order {order} is on its way"


@tools.tool(needs_approval=True)
async def cancel(_context: ToolContext, order: int) -> dict[str, int]:
    """Cancel an order."""
    cancelled.append(order)
    return {"cancelled": order}


@tools.tool(needs_approval=True)
async def pay(_context: ToolContext, to: str) -> str:
    """Pay somebody."""
    return f"paid {to}"


READ = Source(source_id="1", url="https://example.com/orders", title="All orders")
TRAP = {"type": "source-url", "sourceId": "2", "url": "javascript:alert(1)", "title": "A trap"}


class Asking:
    """A model that asks for the tool that the question names, and then says what it heard."""

    name = "asking"

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Ask, or say."""
        last = prompt.messages[-1]
        if last.role == "tool":
            yield TextDelta(text=f"It said: {last.text}")
            yield READ  # type: ignore[misc]  # responders say where they read, as this does
            yield Done(finish_reason="stop")
        else:
            tool, _, order = last.text.partition(" ")
            given = {"order": int(order)} if order.isdecimal() else {"to": order}
            arguments = json.dumps(given)
            yield ToolCall(call_id=str(uuid4()), name=tool, arguments=arguments)
            yield Done(finish_reason="tool-calls")

    async def list_models(self) -> list[ModelInfo]:
        """Have no list."""
        return []


@pytest.fixture
async def shopper(database: MigratedDatabase, browser: Browser) -> AsyncIterator[Visitor]:
    """Somebody at a server whose model may ask for the tools above."""
    cancelled.clear()
    async with aiohttp.ClientSession() as session:
        node = await start_node(database.url, session, "", tools, **OURS_ALONE)
        node.stage.model = Asking()  # type: ignore[assignment]  # a stage plays any model
        somebody = Visitor(browser, node.url)
        try:
            yield somebody
        finally:
            await node.stop()
    assert somebody.unexpected == []


async def say(page: Page, text: str) -> None:
    """Send *text*."""
    await box(page).fill(text)
    await box(page).press("Enter")


def approval(page: Page) -> Locator:
    """What asks whether the tool may run."""
    return page.get_by_role("region", name="Allow cancel?")


async def test_a_tool_that_was_used_is_folded(shopper: Visitor) -> None:
    """One line says which; opened, it shows what it was given and what it said."""
    async with shopper.open() as page:
        await shopper.sign_up(page)
        await say(page, "lookup 7")
        await expect(answers(page).last).to_contain_text("It said:")
        for _ in range(2):
            used = page.get_by_text("Used lookup")
            await expect(used).to_be_visible()
            await expect(page.get_by_text('"order": 7')).to_be_hidden()
            await used.click()
            await expect(page.get_by_text('"order": 7')).to_be_visible()
            await page.reload()


@pytest.mark.parametrize("when", ["at once", "after a reload"])
async def test_a_yes_runs_the_tool_and_the_answer_goes_on(shopper: Visitor, when: str) -> None:
    """What waits shows what would be run; nothing runs before, and what is typed stays."""
    async with shopper.open(width=390) as page:
        await shopper.sign_up(page)
        await say(page, "cancel 7")
        await expect(approval(page)).to_contain_text('"order": 7')
        assert cancelled == []
        await box(page).fill("A thought")
        if when == "after a reload":
            await page.reload()
            await expect(approval(page)).to_be_visible()
        assert await page.evaluate(NAMELESS) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await approval(page).get_by_role("button", name="Yes").click()
        await expect(answers(page).last).to_contain_text(re.compile("It said: .*cancelled"))
        await expect(approval(page)).to_be_hidden()
        await expect(stop_button(page)).to_be_hidden()
        await expect(box(page)).to_have_value("A thought")
        await expect(box(page)).to_be_focused()
        await expect(page.get_by_text("Used cancel")).to_be_visible()
        assert cancelled == [7]


async def test_what_waits_for_a_yes_reads_as_what_is_run(shopper: Visitor) -> None:
    """Characters that turn others round, or are not seen, cannot make it look like another."""
    async with shopper.open() as page:
        await shopper.sign_up(page)
        await say(page, "pay \u202emoc.elpmaxe@\u202cana\u200b")
        asked = page.get_by_role("region", name="Allow pay?")
        await expect(asked).to_contain_text(r'"to": "\u{202e}moc.elpmaxe@\u{202c}ana\u{200b}"')


async def test_a_no_runs_nothing_and_is_told_to_the_model(shopper: Visitor) -> None:
    """The answer goes on with it, and says afterwards that it was not allowed."""
    async with shopper.open() as page:
        await shopper.sign_up(page)
        await say(page, "cancel 8")
        await approval(page).get_by_role("button", name="No").click()
        await expect(answers(page).last).to_contain_text("It said:")
        await page.reload()
        await expect(page.get_by_text("You did not allow cancel")).to_be_visible()
        assert cancelled == []


async def set_a_trap(route: Route) -> None:
    """Say that more was read for the answer; the server itself stores no such address."""
    told = await (await route.fetch()).json()
    told["messages"][-1]["parts"].append(TRAP)
    await route.fulfill(json=told)


async def test_sources_are_links_to_the_web_and_nothing_else(shopper: Visitor) -> None:
    """An address that would run something is shown as its name alone."""
    async with shopper.open() as page:
        await shopper.sign_up(page)
        await say(page, "lookup 7")
        sources = page.get_by_role("list", name="Sources")
        await expect(sources.get_by_role("listitem")).to_have_count(1)
        await page.route("**/api/v1/chat/*?limit=*", set_a_trap)
        await page.reload()
        await expect(sources.get_by_role("listitem")).to_have_count(2)
        link = sources.get_by_role("link")
        await expect(link).to_have_count(1)
        await expect(link).to_have_attribute("href", "https://example.com/orders")
        await expect(link).to_have_attribute("rel", "noopener noreferrer")
        await expect(sources.get_by_text("A trap")).to_be_visible()
