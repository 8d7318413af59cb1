"""The ways in, in a real Chromium: confirmed addresses, links and codes, passkeys, factors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.visiting import (
    MARKS,
    NAMELESS,
    PASSWORD,
    box,
    choose,
    newest_mail,
    open_mailed_link,
)

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.e2e.visiting import Visitor

pytestmark = MARKS

REFUSED = ("Failed to load resource: the server responded with a status of 4",)
NEW_PASSWORD = "another long and quiet password"


async def fill_in(page: Page, email: str, password: str) -> None:
    """Type both into the form that is shown."""
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password", exact=True).fill(password)


async def ask_to_sign_up(page: Page, email: str) -> None:
    """Send the form for a new account, whose address then waits to be confirmed."""
    await page.goto("/sign-in?mode=sign-up")
    await fill_in(page, email, PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_label("Code")).to_be_focused()


async def test_an_address_is_confirmed_by_link_in_the_same_browser(guest: Visitor) -> None:
    """The link of the mail signs in where the account was asked for."""
    async with guest.open() as page:
        await ask_to_sign_up(page, "link@example.com")
        assert await page.evaluate(NAMELESS) == []
        await expect(page.get_by_role("button", name=re.compile("Send again in"))).to_be_disabled()
        await open_mailed_link(page, "link@example.com")
        await expect(box(page)).to_be_visible()
        await expect(page).to_have_url(re.compile(r":\d+/$"))


async def test_an_address_is_confirmed_by_code_after_a_refused_sign_in(guest: Visitor) -> None:
    """Unconfirmed one is told so, asks again, types a wrong code and then the right one."""
    guest.expected = REFUSED
    async with guest.open() as page:
        await ask_to_sign_up(page, "code@example.com")
        await page.goto("/sign-in")
        await fill_in(page, "code@example.com", PASSWORD)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("Confirm your e-mail first")
        await page.get_by_role("button", name="Send the e-mail again").click()
        await expect(page.get_by_label("Code")).to_be_visible()
        await page.get_by_label("Code").fill("000000")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("This code is wrong")
        code = (await newest_mail(page, "code@example.com"))["code"]
        await page.get_by_label("Code").fill(code)
        await page.keyboard.press("Enter")
        await expect(box(page)).to_be_visible()


async def test_a_link_opened_in_another_browser_says_what_to_do(guest: Visitor) -> None:
    """It confirms the address and signs nobody in; the password does, from then on."""
    guest.expected = REFUSED
    async with guest.open() as page, guest.open() as elsewhere:
        await ask_to_sign_up(page, "elsewhere@example.com")
        await open_mailed_link(elsewhere, "elsewhere@example.com")
        await expect(elsewhere.get_by_role("alert")).to_contain_text("another browser")
        await fill_in(elsewhere, "elsewhere@example.com", PASSWORD)
        await elsewhere.get_by_role("button", name="Sign in", exact=True).click()
        await expect(box(elsewhere)).to_be_visible()


async def confirmed(page: Page, email: str) -> None:
    """Make an account with a confirmed address, and sign out of it."""
    await ask_to_sign_up(page, email)
    await page.get_by_label("Code").fill((await newest_mail(page, email))["code"])
    await page.keyboard.press("Enter")
    await expect(box(page)).to_be_visible()
    await choose(page, "Account", "Sign out")
    await expect(page.get_by_role("heading", name="Welcome")).to_be_visible()


async def ask_by_mail(page: Page, email: str, link: str) -> None:
    """Follow *link* of the sign-in page and ask for the mail."""
    await page.get_by_role("link", name=link).click()
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_role("button", name="Send me an e-mail").click()
    await expect(page.get_by_label("Code")).to_be_visible()


@pytest.mark.parametrize("by", ["link", "code"])
async def test_a_forgotten_password_is_replaced(guest: Visitor, by: str) -> None:
    """The mail leads to a new password, which signs in where the old one does not."""
    guest.expected = REFUSED
    email = f"forgetful-{by}@example.com"
    async with guest.open() as page:
        await confirmed(page, email)
        await ask_by_mail(page, email, "Forgot your password?")
        if by == "link":
            await open_mailed_link(page, email)
        else:
            await page.get_by_label("Code").fill((await newest_mail(page, email))["code"])
            await page.keyboard.press("Enter")
        heading = page.get_by_role("heading", name="Choose a new password")
        await expect(heading).to_be_visible()
        await expect(page).to_have_url(re.compile("/new-password"))
        await page.get_by_label("New password").fill(PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_role("alert")).to_contain_text("your present password")
        await page.get_by_label("New password").fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(box(page)).to_be_visible()
        await choose(page, "Account", "Sign out")
        await fill_in(page, email, PASSWORD)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("do not match")
        await page.get_by_label("Password", exact=True).fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(box(page)).to_be_visible()


@pytest.mark.parametrize("by", ["link", "code"])
async def test_one_signs_in_by_mail(guest: Visitor, by: str) -> None:
    """With the link or the code, and no password."""
    email = f"mailed-{by}@example.com"
    async with guest.open() as page:
        await confirmed(page, email)
        await ask_by_mail(page, email, "Sign in by e-mail")
        if by == "link":
            await open_mailed_link(page, email)
        else:
            await page.get_by_label("Code").fill((await newest_mail(page, email))["code"])
            await page.keyboard.press("Enter")
        await expect(box(page)).to_be_visible()
