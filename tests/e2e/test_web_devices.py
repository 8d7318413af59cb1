"""Two browsers of one person: where they are signed in, and ending it from the other one."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.visiting import (
    MARKS,
    NAMELESS,
    ask,
    begin_story,
    box,
    choose,
    press_twice,
    stop_button,
)

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

    from tests.e2e.visiting import Visitor

pytestmark = MARKS

#: What an ended session says for itself in the console: requests that are refused.
REFUSED = ("Failed to load resource: the server responded with a status of 40",)
ENDED = "You were signed out here"


def devices(page: Page) -> Locator:
    """The rows of the page of devices."""
    return page.get_by_role("list", name="Devices").get_by_role("listitem")


async def open_devices(page: Page) -> None:
    """Go to the page of devices as a person does."""
    await choose(page, "Account", "Settings")
    await page.get_by_role("link", name="Devices").click()
    await expect(devices(page).first).to_be_visible()


@pytest.mark.parametrize("doing", ["typing", "reading"])
async def test_a_device_is_signed_out_from_another(visitor: Visitor, doing: str) -> None:
    """It is listed, two clicks end it, its page says so, and what was typed there is kept."""
    visitor.expected = REFUSED
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(visitor.open())
        there = await stack.enter_async_context(visitor.open())
        await visitor.sign_up(here)
        await there.goto("/sign-in")
        await visitor.sign_in(there)
        if doing == "typing":
            await ask(there, "My castle has no roof")
        else:
            await begin_story(there)
        await box(there).fill("A thought that took an hour")

        await open_devices(here)
        await expect(devices(here)).to_have_count(2)
        await expect(devices(here).filter(has_text="This device")).to_have_count(1)
        other = devices(here).filter(has_not_text="This device")
        await expect(other).to_contain_text("Chrome")
        await expect(other).to_contain_text("127.0.0.1")
        await expect(other).to_contain_text("last seen")
        assert await here.evaluate(NAMELESS) == []

        end = other.get_by_role("button", name="Sign out")
        await press_twice(here, end, no="Keep it signed in", yes="Yes, sign it out")
        await there.get_by_text(ENDED).wait_for()
        await expect(devices(here)).to_have_count(1)
        await expect(here.get_by_text("You are signed in nowhere else.")).to_be_visible()
        await expect(here.get_by_role("heading", name="Devices")).to_be_focused()

        await visitor.sign_in(there)
        await expect(box(there)).to_have_value("A thought that took an hour")
        await expect(there).to_have_url(re.compile("/c/"))


async def test_everywhere_else_is_signed_out(visitor: Visitor) -> None:
    """Every other browser says so by itself, all windows of it; this one goes on."""
    visitor.expected = REFUSED
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(visitor.open())
        await visitor.sign_up(here)
        others = []
        for _ in range(2):
            other = await stack.enter_async_context(visitor.open())
            await other.goto("/sign-in")
            await visitor.sign_in(other)
            others.append(other)
        window = await visitor.page(others[0].context)
        await window.goto("/")
        await expect(box(window)).to_be_visible()
        await open_devices(here)
        await expect(devices(here)).to_have_count(3)
        end = here.get_by_role("button", name="Sign out everywhere else")
        await press_twice(here, end, no="Keep everything", yes="Yes, sign 2 devices out")
        for page in (*others, window):
            await page.get_by_role("button", name="Sign in", exact=True).wait_for()
        await expect(devices(here)).to_have_count(1)
        await here.get_by_role("link", name="General").click()
        await choose(here, "Account", "Settings")
        await here.goto("/")
        await ask(here, "I am still here")


async def test_signing_out_here_on_purpose_says_nothing_of_others(visitor: Visitor) -> None:
    """One's own device in the list signs out like the menu does."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await open_devices(page)
        end = page.get_by_role("button", name="Sign out of this device")
        await press_twice(page, end, no="Stay signed in", yes="Yes, sign out here")
        await expect(page.get_by_role("heading", name="Welcome")).to_be_visible()
        await expect(page.get_by_text(ENDED)).to_be_hidden()
        await expect(stop_button(page)).to_be_hidden()
