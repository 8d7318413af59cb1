"""What the web chat says of an answer that is not whole, and how it goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import psycopg
import pytest
from playwright.async_api import expect

from chatkeep.db import WORKER
from chatkeep.events import Done, ReasoningDelta, TextDelta
from tests.e2e.visiting import MARKS, NAMELESS, Visitor, answers, box, stop_button
from tests.gotrue_people import OURS_ALONE
from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from chatkeep.testing import Step
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

pytestmark = MARKS


@pytest.fixture
async def node(database: MigratedDatabase) -> AsyncIterator[Node]:
    """A server whose model the test directs."""
    async with aiohttp.ClientSession() as session:
        started = await start_node(database.url, session, "", **OURS_ALONE)
        try:
            yield started
        finally:
            await started.stop()


@pytest.fixture
async def reader(node: Node, browser: Browser) -> AsyncIterator[Visitor]:
    """Somebody at that server."""
    somebody = Visitor(browser, node.url)
    yield somebody
    assert somebody.unexpected == []


@pytest.mark.parametrize("how", ["stopped", "interrupted"])
async def test_an_answer_that_was_cut_off_goes_on_as_one(
    node: Node, reader: Visitor, how: str
) -> None:
    """One button; the same answer grows, in the middle of its word, and stays so when reloaded."""
    hold, rest = asyncio.Event(), asyncio.Event()
    model = node.stage.play(["Half an ans", hold], ["wer, and", rest, " its end."])
    async with reader.open(width=390) as page:
        await reader.sign_up(page)
        await box(page).fill("Tell me")
        await box(page).press("Enter")
        await expect(answers(page).last).to_contain_text("Half an ans")
        await stop_button(page).click()
        await expect(page.get_by_text("You stopped this answer.")).to_be_visible()
        if how == "interrupted":
            await node.services.db.execute(
                WORKER, "update chat.runs set state = 'interrupted' where state = 'stopped'", []
            )
            await page.reload()
            await expect(page.get_by_text("This answer was interrupted.")).to_be_visible()
            await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        assert await page.evaluate(NAMELESS) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.get_by_role("button", name="Continue").click()
        await expect(answers(page)).to_have_count(1)
        await expect(answers(page).last).to_contain_text("Half an answer, and")
        rest.set()
        for _ in range(2):
            await expect(answers(page).last).to_contain_text("Half an answer, and its end.")
            await expect(page.get_by_role("button", name="Continue")).to_be_hidden()
            await expect(page.get_by_role("group", name="Versions")).to_be_hidden()
            await page.reload()
        assert len(model.prompts) == 2


async def test_what_cannot_be_continued_any_more_says_so(
    node: Node, reader: Visitor, database: MigratedDatabase
) -> None:
    """Continued on another device meanwhile: the page says why not, and shows what there is."""
    reader.expected = ("Failed to load resource: the server responded with a status of 409",)
    hold = asyncio.Event()
    node.stage.play(["Half an ans", hold])
    async with reader.open() as page:
        await reader.sign_up(page)
        await box(page).fill("Tell me")
        await box(page).press("Enter")
        await expect(answers(page).last).to_contain_text("Half an ans")
        await stop_button(page).click()
        await expect(page.get_by_role("button", name="Continue")).to_be_visible()
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            connection.execute("update chat.runs set state = 'done' where state = 'stopped'")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_text("Only the last answer can be continued")).to_be_visible()
        await expect(page.get_by_role("button", name="Continue")).to_be_hidden()
        await expect(answers(page).last).to_contain_text("Half an ans")


REASONS: dict[str, tuple[list[Step], str]] = {
    "length": (
        [TextDelta(text="Half an ans"), Done(finish_reason="length")],
        "The model stopped at its length limit.",
    ),
    "filter": (
        [TextDelta(text="Half an ans"), Done(finish_reason="content-filter")],
        "A content filter shortened or replaced this answer.",
    ),
    "filter of all": (
        [Done(finish_reason="content-filter")],
        "A content filter held back this answer.",
    ),
    "nothing": ([Done(finish_reason="stop")], "The model said nothing."),
    "only thought": (
        [ReasoningDelta(text="Hm, hm."), Done(finish_reason="length")],
        "The model reached its length limit before it said anything.",
    ),
}


@pytest.mark.parametrize("how", REASONS)
async def test_an_answer_that_is_not_whole_says_why(node: Node, reader: Visitor, how: str) -> None:
    """One line, the same when it has just ended, after a reload, and after the next answer."""
    script, line = REASONS[how]
    node.stage.play(script, ["All of it."])
    async with reader.open(width=390) as page:
        await reader.sign_up(page)
        await box(page).fill("Tell me")
        await box(page).press("Enter")
        for _ in range(2):
            await expect(answers(page).last.get_by_text(line)).to_be_visible()
            await expect(answers(page).last.locator(".ending")).to_have_count(1)
            goes_on = page.get_by_role("button", name="Continue")
            await expect(goes_on).to_have_count(1 if "length limit" in line else 0)
            assert await page.evaluate(NAMELESS) == []
            await page.reload()
        await expect(answers(page).last.get_by_text(line)).to_be_visible()
        await box(page).fill("And now?")
        await box(page).press("Enter")
        await expect(answers(page).last).to_contain_text("All of it.")
        await expect(page.get_by_text(line)).to_have_count(1)
        await expect(answers(page).last.locator(".ending")).to_have_count(0)
        await expect(page.get_by_role("button", name="Continue")).to_have_count(0)


async def test_an_answer_that_its_length_limit_ended_goes_on(node: Node, reader: Visitor) -> None:
    """By the same button as one that was stopped; then nothing is said of a limit any more."""
    node.stage.play(REASONS["length"][0], ["wer, and its end."])
    async with reader.open() as page:
        await reader.sign_up(page)
        await box(page).fill("Tell me")
        await box(page).press("Enter")
        await page.get_by_role("button", name="Continue").click()
        for _ in range(2):
            await expect(answers(page)).to_have_count(1)
            await expect(answers(page).last).to_contain_text("Half an answer, and its end.")
            await expect(answers(page).last.locator(".ending")).to_have_count(0)
            await page.reload()
