"""Where an application answers itself, the web chat names no model that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import folder_for_a_server
from tests.e2e.visiting import MARKS, Server, Visitor, answers, box
from tests.free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.e2e.conftest import Settle

pytestmark = MARKS

RESPONDER = """
from chatkeep.events import Done, TextDelta


async def respond(asked):
    yield TextDelta(text="The shop answers.")
    yield Done(finish_reason="stop")
"""


@pytest.fixture
async def shop(settle: Settle) -> AsyncIterator[Server]:
    """A server without a key of a provider, whose application answers."""
    with folder_for_a_server() as folder:
        settle(folder / "data")
        (folder / "shop_answers.py").write_text(RESPONDER)
        running = Server(folder, free_port(), {"RESPONDER": "shop_answers:respond"})
        try:
            await running.start()
            yield running
        finally:
            await running.end()


async def test_an_application_that_answers_is_not_called_eliza(
    browser: Browser, shop: Server
) -> None:
    """Neither in the greeting, nor as the model, nor under an answer, nor in the settings."""
    visitor = Visitor(browser, shop.url)
    async with visitor.open() as page:
        await visitor.sign_up(page)
        told = await page.request.get("/api/config")
        assert (await told.json())["built_in_model"] is False
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await box(page).fill("Who are you?")
        await expect(page.locator("body")).not_to_contain_text("eliza", ignore_case=True)
        await box(page).press("Enter")
        await expect(answers(page).last).to_contain_text("The shop answers.")
        await page.reload()
        await expect(answers(page).last.locator("time")).to_be_attached()
        await expect(page.locator("body")).not_to_contain_text("eliza", ignore_case=True)
        await page.goto("/settings")
        await expect(page.get_by_label("Model")).to_be_visible()
        await expect(page.locator("body")).not_to_contain_text("eliza", ignore_case=True)
    assert visitor.unexpected == []


async def test_the_built_in_program_is_named(visitor: Visitor) -> None:
    """Where nothing else answers, the page says so, and what would change it."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await expect(page.get_by_text("You are talking to ELIZA")).to_be_visible()
        await expect(page.locator(".model-name")).to_have_text("ELIZA (built in)")
