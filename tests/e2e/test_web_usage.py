"""Budgets and usage in a real Chromium: what is left, what was used, and what is refused."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from tests.e2e.test_web_keys import wider_than_the_window
from tests.e2e.visiting import MARKS, NAMELESS, ask, box, choose

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.e2e.visiting import Server, Visitor

pytestmark = MARKS

REFUSED = ("Failed to load resource: the server responded with a status of 429",)


async def usage_of(page: Page) -> dict[str, Any]:
    """Return what the server says that the person at *page* has used."""
    report: dict[str, Any] = await page.evaluate(
        """async () => {
          const session = JSON.parse(localStorage.getItem('chatkeep:session'));
          const answer = await fetch('/api/usage', {
            headers: { authorization: `Bearer ${session.access_token}` },
          });
          return answer.json();
        }"""
    )
    return report


async def limit(server: Server, email: str, tokens: int) -> None:
    """Let somebody use so many tokens a day, as an operator does it."""
    command = Path(sys.executable).with_name("chatkeep")
    process = await asyncio.create_subprocess_exec(
        command,
        *("budgets", "set", "--user", email, "--tokens-per-day", str(tokens)),
        *("--data", str(server.folder / "data")),
        cwd=server.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def open_usage(page: Page) -> None:
    """Go to the page of usage as a person does."""
    await choose(page, "Account", "Settings")
    await page.get_by_role("link", name="Usage").click()
    await expect(page.get_by_role("heading", name="What is left")).to_be_visible()


async def test_usage_is_shown_by_day_and_by_model(visitor: Visitor) -> None:
    """Nothing at first; after an answer a row for today and one for its model."""
    async with visitor.open(width=390, scheme="dark") as page:
        await visitor.sign_up(page)
        await page.goto("/settings/usage")
        await expect(page.get_by_text("Nothing is limited here.")).to_be_visible()
        await expect(page.get_by_text("Nothing in the last 30 days.")).to_be_visible()
        await page.goto("/")
        await ask(page, "My boat is leaking")
        await page.goto("/settings/usage")
        await expect(page.get_by_text("This month: one answer")).to_be_visible()
        by_model = page.get_by_role("table", name="By model")
        await expect(by_model.get_by_role("row")).to_have_count(2)
        await expect(by_model).to_contain_text("chatkeep/eliza")
        by_day = page.get_by_role("table", name="By day")
        await expect(by_day.get_by_role("row")).to_have_count(2)
        assert await page.evaluate(NAMELESS) == []
        assert not await wider_than_the_window(page)
        await page.set_viewport_size({"width": 320, "height": 640})
        today = by_day.get_by_role("rowheader").locator("time")
        assert await today.evaluate("(one) => one.getClientRects().length") == 1, "on one line"


async def test_a_budget_is_told_before_it_ends_and_when_it_has(
    visitor: Visitor, server: Server
) -> None:
    """A meter in the settings, a word at the composer from 80 % on, and a refusal that says when.

    The message that was refused stays where it can be sent again or taken back.
    """
    visitor.expected = REFUSED
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        (day,) = (await usage_of(page))["by_day"]
        used = day["prompt_tokens"] + day["completion_tokens"]

        await limit(server, visitor.email, used * 1000)
        await page.reload()
        await expect(box(page)).to_be_visible()
        await expect(page.get_by_text("Tokens today")).to_be_hidden()

        await limit(server, visitor.email, math.ceil(used / 0.9))
        await page.reload()
        hint = page.get_by_role("status").filter(has_text="Tokens today")
        await expect(hint).to_contain_text("left · anew at")
        await hint.get_by_role("link").click()
        meter = page.get_by_role("meter", name="Tokens today")
        await expect(meter).to_have_attribute("aria-valuenow", re.compile("^(89|90)$"))
        await expect(page.get_by_text("Begins anew at")).to_be_visible()
        assert await page.evaluate(NAMELESS) == []

        await page.go_back()
        await box(page).fill("And now it rains")
        await box(page).press("Enter")
        refusal = page.get_by_role("alert")
        await expect(refusal).to_contain_text("Your message was not sent. Tokens today: used up")
        await expect(refusal).to_contain_text("It begins anew at")
        await expect(page.get_by_role("link", name="See usage")).to_be_visible()
        await expect(page.get_by_role("button", name="Send again")).to_be_enabled()
        await page.get_by_role("button", name="Edit", exact=True).click()
        await expect(box(page)).to_have_value("And now it rains")

        await limit(server, visitor.email, used)
        await page.reload()
        await expect(hint).to_contain_text("Tokens today: used up")
        await open_usage(page)
        await expect(meter).to_have_attribute("aria-valuenow", "100")
