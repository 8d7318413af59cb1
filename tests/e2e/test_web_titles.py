"""Titles that a model gives reach the web chat's list by themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
from playwright.async_api import expect

from tests.e2e.visiting import MARKS, Visitor, answers, box
from tests.gotrue_people import OURS_ALONE
from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Locator, Page

    from chatkeep.llm.model import Prompt
    from chatkeep.testing import Step
    from tests.postgres_servers import MigratedDatabase

pytestmark = MARKS


@pytest.fixture
def gate() -> asyncio.Event:
    """What the naming model waits for."""
    return asyncio.Event()


@pytest.fixture
async def reader(
    database: MigratedDatabase, browser: Browser, gate: asyncio.Event
) -> AsyncIterator[Visitor]:
    """Somebody at a server where a model names conversations."""

    def script(prompt: Prompt) -> list[Step]:
        is_name = prompt.settings.model == "cheap/namer"
        return [gate, "Dark <b>bread</b>"] if is_name else ["Knead it."]

    async with aiohttp.ClientSession() as session:
        node = await start_node(database.url, session, "", **OURS_ALONE, TITLE_MODEL="cheap/namer")
        node.stage.play(answer=script)
        somebody = Visitor(browser, node.url)
        try:
            yield somebody
        finally:
            await node.stop()
    assert somebody.unexpected == []


def entry(page: Page, title: str) -> Locator:
    """The conversation called *title* in the list."""
    return page.get_by_role("link", name=title, exact=True)


async def test_title_appears_in_the_list_without_a_reload(
    reader: Visitor, gate: asyncio.Event
) -> None:
    """Long after the answer, in this page and in another one of the same browser."""
    async with reader.open(width=1200) as page:
        await reader.sign_up(page)
        second = await page.context.new_page()
        await second.goto(reader.url)
        await box(page).fill("How do I bake bread?")
        await box(page).press("Enter")
        await expect(answers(page).last).to_contain_text("Knead it.")
        await expect(entry(page, "How do I bake bread?")).to_be_visible()
        # Longer than the page would ask by itself, for want of a title.
        await page.wait_for_timeout(3000)
        gate.set()
        await expect(entry(page, "Dark bread")).to_be_visible()
        await expect(entry(second, "Dark bread")).to_be_visible()
        await expect(page).to_have_title("Dark bread · Chatkeep")
