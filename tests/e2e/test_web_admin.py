"""The admin console in a real Chromium: figures that move, people, the log; others see nothing."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import lent_server
from tests.e2e.test_web_keys import wider_than_the_window
from tests.e2e.visiting import MARKS, NAMELESS, Visitor, ask, box, choose, press_twice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Locator, Page, Route

    from tests.e2e.conftest import Settle
    from tests.e2e.visiting import Server

pytestmark = MARKS

UNREACHABLE = ("Failed to load resource: net::ERR",)
NARROW = 390
WIDER_THAN_ITS_PLACE = """
() => [...document.querySelectorAll('.settings-scroll')]
  .some((one) => one.scrollWidth > one.clientWidth)
"""


@pytest.fixture(scope="module")
async def server(settle: Settle) -> AsyncIterator[Server]:
    """A server that only these tests use: they read figures of everybody on it."""
    async with lent_server(settle) as running:
        yield running


async def make_administrator(server: Server, email: str) -> None:
    """Give somebody the role, as an operator does it."""
    command = Path(sys.executable).with_name("chatkeep")
    process = await asyncio.create_subprocess_exec(
        command,
        *("users", "grant-role", email, "admin", "--data", str(server.folder / "data")),
        cwd=server.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def administrator(server: Server, visitor: Visitor, page: Page) -> None:
    """Sign up as somebody who may administer, and open the console as they do."""
    await visitor.sign_up(page)
    await make_administrator(server, visitor.email)
    await page.reload()
    await expect(box(page)).to_be_visible()
    await choose(page, "Account", "Administration")
    await expect(page.get_by_role("heading", name="Administration", level=1)).to_be_visible()
    await expect(tile(page, "Answers")).to_be_visible()


def tile(page: Page, name: str) -> Locator:
    """A figure at the top of the overview."""
    return page.locator(".tile").filter(has=page.get_by_text(name, exact=True))


async def figure(page: Page, name: str) -> str:
    """What stands in it."""
    return await tile(page, name).locator(".tile-value").inner_text()


async def test_figures_move_when_somebody_is_answered(
    server: Server, browser: Browser, visitor: Visitor
) -> None:
    """An administrator watches; somebody else asks, is counted, and is shown nothing of it."""
    async with visitor.open() as page:
        await administrator(server, visitor, page)
        await expect(page.get_by_text("Live, as of")).to_be_visible()
        before = int(await figure(page, "Answers"))
        people = int(await figure(page, "People"))
        bo = Visitor(browser, server.url)
        async with bo.open() as other:
            await bo.sign_up(other)
            await ask(other, "What nobody else may read")
            await expect(tile(page, "Answers").locator(".tile-value")).to_have_text(str(before + 1))
            await expect(tile(page, "People").locator(".tile-value")).to_have_text(str(people + 1))
            chart = page.get_by_role("figure", name="Answers per minute")
            await expect(chart.get_by_role("img")).to_have_attribute(
                "aria-label", re.compile(rf"Done: {before + 1}\b")
            )
            await chart.get_by_text("As a table").click()
            await expect(chart.get_by_role("row").nth(1)).to_be_visible()
            assert "What nobody else" not in await page.content()
            await other.get_by_role("button", name="Account").click()
            await expect(other.get_by_role("menuitem", name="Settings")).to_be_visible()
            await expect(other.get_by_role("menuitem", name="Administration")).to_have_count(0)
            for path in ("/admin", "/admin/audit", "/admin/people"):
                await other.goto(path)
                await expect(
                    other.get_by_role("heading", name="Only for administrators")
                ).to_be_visible()
                await expect(other.locator(".tile, .rows, form.audit-filter")).to_have_count(0)
            await other.get_by_role("button", name="Go to your chats").click()
            await expect(box(other)).to_be_visible()
        assert bo.unexpected == []
        await page.get_by_label("Last day").check()
        await expect(page.get_by_role("figure", name="Answers per quarter")).to_be_visible()
        assert await page.evaluate(NAMELESS) == []


async def test_a_server_that_is_away_is_told_and_found_again(
    server: Server, visitor: Visitor
) -> None:
    """What was read stays, and says that it is old, until the server answers again."""
    async with visitor.open() as page:
        await administrator(server, visitor, page)
        visitor.expected = UNREACHABLE
        await page.route("**/api/admin/overview*", lambda route: route.abort())
        await expect(page.get_by_text("Disconnected.")).to_be_visible()
        await expect(tile(page, "Answers")).to_be_visible()
        await page.unroute("**/api/admin/overview*")
        await page.get_by_role("button", name="Try now").click()
        await expect(page.get_by_text("Live, as of")).to_be_visible()
        await expect(page.get_by_text("Disconnected.")).to_have_count(0)


async def test_who_loses_the_role_is_shown_nothing_more(server: Server, visitor: Visitor) -> None:
    """Neither new figures nor those that were there, from the next look at them on."""
    forbidden = '{"code": "forbidden", "detail": "You may not do this.", "status": 403}'
    async with visitor.open() as page:
        await administrator(server, visitor, page)
        visitor.expected = ("Failed to load resource: the server responded with a status of 403",)
        await page.route(
            "**/api/admin/overview*", lambda route: route.fulfill(status=403, body=forbidden)
        )
        await expect(page.get_by_role("heading", name="Only for administrators")).to_be_visible()
        await expect(page.locator(".tile")).to_have_count(0)


async def test_who_is_not_signed_in_is_asked_to_and_comes_back(
    server: Server, visitor: Visitor
) -> None:
    """To the page of the console that they wanted."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await make_administrator(server, visitor.email)
        await choose(page, "Account", "Sign out")
        await expect(page.get_by_label("E-mail")).to_be_visible()
    async with visitor.open() as page:
        await page.goto("/admin/claims")
        await visitor._fill_form(page)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(
            page.get_by_role("heading", name="Session tokens by the version")
        ).to_be_visible()
        assert page.url.endswith("/admin/claims")


async def test_somebody_is_suspended_and_let_in_again(
    server: Server, browser: Browser, visitor: Visitor
) -> None:
    """Found by their address, kept out at once, undone with one press, and all of it in the log."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 401",)

    async def want_more(route: Route) -> None:
        problem = {"code": "step_up_required", "status": 401, "detail": "Sign in again for this."}
        headers = {"www-authenticate": 'Bearer error="insufficient_user_authentication"'}
        await route.fulfill(status=401, json=problem, headers=headers)

    async with visitor.open() as page:
        await administrator(server, visitor, page)
        eve = Visitor(browser, server.url)
        eve.expected = ("Failed to load resource: the server responded with a status of 40",)
        async with eve.open() as other:
            await eve.sign_up(other)
            await page.get_by_role("link", name="People").click()
            await page.get_by_role("searchbox", name="Part of an address").fill(eve.email)
            await page.get_by_role("button", name="Search").click()
            await page.get_by_role("link", name=eve.email, exact=True).click()
            await expect(
                page.get_by_role("list", name="Sessions").get_by_role("listitem")
            ).to_have_count(1)
            await expect(page.get_by_text("Nothing in the last 30 days.")).to_be_visible()
            await expect(page.get_by_text("They have no API keys.")).to_be_visible()
            await page.get_by_role("button", name="Suspend").click()
            await page.get_by_label("Reason").fill("spam")
            window = page.get_by_role("dialog")
            await page.route("**/ban", want_more, times=1)
            await window.get_by_role("button", name="Suspend").click()
            # Behind the window it could not be pressed.
            again = window.get_by_role("button", name="Sign in again")
            await again.click(trial=True)
            await window.get_by_role("button", name="Dismiss").click()
            await window.get_by_role("button", name="Suspend").click()
            await expect(page.get_by_text("Suspended, and signed out everywhere.")).to_be_visible()
            await expect(page.get_by_role("heading", name="Suspended")).to_be_visible()
            await expect(other.get_by_label("E-mail")).to_be_visible()
            await page.get_by_role("button", name="Undo").click()
            await expect(page.get_by_role("button", name="Suspend")).to_be_visible()
            await eve.sign_in(other)
            await page.reload()
            end = page.get_by_role("button", name="End the session on Chrome")
            await press_twice(page, end, no="Keep it", yes="Yes, end it")
            await expect(other.get_by_label("E-mail")).to_be_visible()
            await expect(page.get_by_role("heading", name="Sessions")).to_be_focused()
        await page.get_by_role("link", name="In the audit log").click()
        entries = page.get_by_role("list", name="Entries").get_by_role("listitem")
        await expect(entries.filter(has_text="user.unbanned")).to_have_count(1)
        await expect(entries.filter(has_text="user.banned").filter(has_text="spam")).to_have_count(
            1
        )
        await page.get_by_label("Action").fill("user.banned")
        await page.get_by_role("button", name="Show", exact=True).click()
        await expect(entries).to_have_count(1)


async def test_the_console_fits_narrow_windows(server: Server, visitor: Visitor) -> None:
    """On each page nothing is wider than the window, and everything has a name."""
    async with visitor.open() as page:
        await administrator(server, visitor, page)
        await page.set_viewport_size({"width": NARROW, "height": 800})
        for name in ("Overview", "People", "Audit log", "Old tokens", "Keys and limits"):
            await (
                page.get_by_role("navigation", name="Administration")
                .get_by_role("link", name=name)
                .click()
            )
            await expect(page.locator(".panel").first).to_be_visible()
            assert not await wider_than_the_window(page)
            assert not await page.evaluate(WIDER_THAN_ITS_PLACE)
            assert await page.evaluate(NAMELESS) == []
