"""A server that asks for a second factor, in a real Chromium: nobody is left before the door."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pyotp
import pytest
from playwright.async_api import expect

from tests.accessibility import NEEDS_AXE, faults_of
from tests.chromium import plug_in, webauthn
from tests.e2e.conftest import folder_for_a_server
from tests.e2e.test_web_account import REFUSED, open_account, rows
from tests.e2e.test_web_small_screens import STICKS_OUT, WIDTH
from tests.e2e.visiting import (
    MARKS,
    NAMELESS,
    PASSWORD,
    Server,
    Visitor,
    answers,
    ask,
    box,
    choose,
    copied,
)
from tests.free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Locator, Page

pytestmark = MARKS

SET_UP = "Set up an authenticator app"
#: As long after its last second as makes the page ask for the next token.
RUN_OUT = """
() => {
  const session = JSON.parse(localStorage.getItem('chatkeep:session'));
  session.expires_at = 1;
  localStorage.setItem('chatkeep:session', JSON.stringify(session));
  document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
}
"""


@pytest.fixture(scope="module")
async def strict() -> AsyncIterator[Server]:
    """A server where everybody must have a second factor."""
    with folder_for_a_server() as folder:
        running = Server(folder, free_port(), {"MFA_REQUIRED": "everybody"})
        try:
            await running.start()
            yield running
        finally:
            await running.end()


@pytest.fixture
async def newcomer(browser: Browser, strict: Server) -> AsyncIterator[Visitor]:
    """Somebody new there, at an address where passkeys work."""
    somebody = Visitor(browser, strict.url.replace("127.0.0.1", "localhost"))
    somebody.expected = REFUSED
    yield somebody
    assert somebody.unexpected == []


def heading(page: Page, name: str) -> Locator:
    """The heading of a page before the chats."""
    return page.get_by_role("heading", level=1, name=name)


async def arrive(page: Page, email: str) -> None:
    """Make an account, and be asked for a second factor."""
    await page.goto("/sign-in?mode=sign-up")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await expect(heading(page, "Set up a second factor")).to_be_visible()


async def sign_in(page: Page, email: str) -> None:
    """Show address and password alone."""
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def set_up(page: Page) -> str:
    """Add an app, up to the recovery codes; return its key."""
    await page.get_by_role("button", name=SET_UP).click()
    secret = await page.locator(".secret").inner_text()
    await page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
    await page.keyboard.press("Enter")
    await expect(rows(page, "Recovery codes")).to_have_count(10)
    return secret


def next_code(secret: str) -> str:
    """What an app will show next, which is taken already; each code is good once."""
    return pyotp.TOTP(secret).at(time.time(), counter_offset=1)


async def test_newcomer_sets_up_a_factor_and_chats(newcomer: Visitor) -> None:
    """The chats open when the recovery codes are kept; next time a code is asked for."""
    email = "newcomer@example.com"
    async with newcomer.open() as page:
        await arrive(page, email)
        await expect(heading(page, "Set up a second factor")).to_be_focused()
        await expect(page.get_by_text("You have until")).to_be_visible()
        assert await page.evaluate(NAMELESS) == []
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name=SET_UP)).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Code")).to_be_focused()
        picture = page.get_by_role("img", name=re.compile("QR code"))
        assert await picture.evaluate("one => one.decode().then(() => one.naturalWidth > 0)")
        secret = await page.locator(".secret").inner_text()
        await page.keyboard.type("000000")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("This code is wrong")
        await expect(page.get_by_label("Code")).to_be_focused()
        await page.keyboard.type(pyotp.TOTP(secret).now())
        await page.keyboard.press("Enter")
        await expect(heading(page, "Keep your recovery codes")).to_be_focused()
        await expect(rows(page, "Recovery codes")).to_have_count(10)
        assert await page.evaluate(NAMELESS) == []
        await expect(box(page)).to_be_hidden()
        await page.get_by_role("button", name="Copy").click()
        codes = await rows(page, "Recovery codes").all_inner_texts()
        await copied(page, "\n".join(codes) + "\n")
        await page.get_by_role("button", name="I have kept them").click()
        await ask(page, "My castle has no roof")

        await choose(page, "Account", "Sign out")
        await sign_in(page, email)
        await expect(heading(page, "One more step")).to_be_visible()
        await page.get_by_label("Code").fill(next_code(secret))
        await page.keyboard.press("Enter")
        await expect(box(page)).to_be_visible()


@NEEDS_AXE
async def test_setting_it_up_keeps_nobody_out(newcomer: Visitor) -> None:
    """Every step of it, as axe-core judges them."""
    async with newcomer.open() as page:
        await arrive(page, "everybody@example.com")
        await expect(heading(page, "Set up a second factor")).to_be_focused()
        assert await faults_of(page) == []
        await page.get_by_role("button", name=SET_UP).click()
        secret = await page.locator(".secret").inner_text()
        assert await faults_of(page) == []
        await page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
        await page.keyboard.press("Enter")
        await expect(rows(page, "Recovery codes")).to_have_count(10)
        assert await faults_of(page) == []


async def test_it_fits_on_a_phone(newcomer: Visitor) -> None:
    """Nothing of the three pages is beside the screen."""
    async with newcomer.open(width=WIDTH) as page:
        await arrive(page, f"{'somebody-with-a-long-name' * 2}@example.com")
        assert await page.evaluate(STICKS_OUT) == []
        await page.get_by_role("button", name=SET_UP).click()
        await expect(page.get_by_label("Code")).to_be_visible()
        assert await page.evaluate(STICKS_OUT) == []
        await page.get_by_role("button", name="Back").click()
        await set_up(page)
        assert await page.evaluate(STICKS_OUT) == []


async def test_who_takes_too_long_is_told_and_begins_again(newcomer: Visitor) -> None:
    """There is no token after the first; what was begun does not stand in the way."""
    email = "late@example.com"
    async with newcomer.open() as page:
        await arrive(page, email)
        await page.get_by_role("button", name=SET_UP).click()
        await expect(page.get_by_label("Code")).to_be_visible()
        await page.evaluate(RUN_OUT)
        await expect(page.get_by_text("The second factor took too long")).to_be_visible()
        await sign_in(page, email)
        await set_up(page)
        await page.get_by_role("button", name="I have kept them").click()
        await expect(box(page)).to_be_visible()


async def test_signing_out_leaves_the_door(newcomer: Visitor) -> None:
    """Who wants no second factor now can go, and finds the same door later."""
    email = "reluctant@example.com"
    async with newcomer.open() as page:
        await arrive(page, email)
        await page.reload()
        await expect(heading(page, "Set up a second factor")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await sign_in(page, email)
        await expect(heading(page, "Set up a second factor")).to_be_visible()


async def test_codes_that_were_not_made_are_asked_for_again(newcomer: Visitor) -> None:
    """The factor is on by then: one tries again, or goes on without."""
    newcomer.expected = (*REFUSED, "Failed to load resource: net::ERR_FAILED")
    async with newcomer.open() as page:
        await arrive(page, "offline@example.com")
        await page.route("**/factors/recovery-codes*", lambda route: route.abort())
        await page.get_by_role("button", name=SET_UP).click()
        secret = await page.locator(".secret").inner_text()
        await page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        await expect(page.get_by_role("button", name="Go on, and make them")).to_be_visible()
        await page.unroute("**/factors/recovery-codes*")
        await page.get_by_role("button", name="Try again").click()
        await expect(rows(page, "Recovery codes")).to_have_count(10)


async def test_passkey_does_as_well(newcomer: Visitor) -> None:
    """It is added and signed in with at once; with the password alone it is asked for."""
    email = "finger@example.com"
    async with newcomer.open() as page:
        devtools = await webauthn(page)
        await plug_in(devtools)
        await arrive(page, email)
        await page.get_by_role("button", name="Add a passkey").click()
        await ask(page, "My castle has no roof")
        await choose(page, "Account", "Sign out")
        await sign_in(page, email)
        await expect(heading(page, "Set up a second factor")).to_be_visible()
        await page.get_by_role("button", name="Sign in with a passkey").click()
        await expect(box(page)).to_be_visible()


async def test_factor_that_is_required_later_keeps_the_draft(browser: Browser, home: Path) -> None:
    """Who has a chat open meanwhile signs in again, sets it up, and goes on where they were."""
    server = Server(home, free_port())
    visitor = Visitor(browser, server.url)
    visitor.expected = ("Failed to load resource",)
    await server.start()
    try:
        async with visitor.open() as page:
            await visitor.sign_up(page)
            await ask(page, "My castle has no roof")
            address = page.url
            await box(page).fill("and it rains")
            await server.end()
            server.environment["MFA_REQUIRED"] = "everybody"
            await server.start()
            await page.evaluate(RUN_OUT)
            await expect(page.get_by_text("Your session has ended.")).to_be_visible()
            await sign_in(page, visitor.email)
            await set_up(page)
            await page.get_by_role("button", name="I have kept them").click()
            await expect(page).to_have_url(address)
            await expect(box(page)).to_have_value("and it rains")
            await expect(answers(page)).to_have_count(1)
    finally:
        await server.end()
    assert visitor.unexpected == []


async def test_session_that_falls_is_asked_for_the_factor_left(visitor: Visitor) -> None:
    """With the app that raised it gone, the next token asks for the other, over open chats."""
    visitor.expected = REFUSED
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await box(page).fill("My castle has no roof")
        await open_account(page)
        secrets = []
        for button in ("Turn on", "Add another app"):
            await page.get_by_role("button", name=button).click()
            secrets.append(await page.locator(".secret").inner_text())
            await page.get_by_label("Code").fill(pyotp.TOTP(secrets[-1]).now())
            await page.keyboard.press("Enter")
            await page.get_by_role("button", name="I have kept them").click()
        await rows(page, "Second factors").get_by_role("button", name="Remove").last.click()
        await page.get_by_role("button", name="Yes, remove it").click()
        await expect(heading(page, "One more step")).to_be_visible()
        await page.get_by_label("Code").fill(next_code(secrets[0]))
        await page.keyboard.press("Enter")
        await expect(rows(page, "Second factors")).to_have_count(1)
        await (
            page.get_by_role("link", name="New chat")
            .or_(page.get_by_role("button", name="New chat"))
            .first.click()
        )
        await expect(box(page)).to_have_value("My castle has no roof")
