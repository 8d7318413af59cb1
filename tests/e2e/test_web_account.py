"""The account page in a real Chromium: address, password, second factor, passkeys."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import aiohttp
import pyotp
from playwright.async_api import expect

from tests.chromium import plug_in, webauthn
from tests.e2e.visiting import (
    MARKS,
    NAMELESS,
    PASSWORD,
    Visitor,
    ask,
    box,
    chats,
    choose,
    newest_mail,
    open_mailed_link,
    press_twice,
)

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Page, Route

    from tests.e2e.visiting import Server

pytestmark = MARKS

REFUSED = ("Failed to load resource: the server responded with a status of 4",)
NEW_PASSWORD = "another long and quiet password"


async def open_account(page: Page) -> None:
    """Go to the page of the account as a person does."""
    await choose(page, "Account", "Settings")
    await page.get_by_role("link", name="Account", exact=True).click()
    await expect(page.get_by_role("heading", name="E-mail")).to_be_visible()


def rows(page: Page, name: str) -> Locator:
    """The rows of the list called *name*."""
    return page.get_by_role("list", name=name).get_by_role("listitem")


async def remove_after_a_second_look(page: Page, kind: str, name: str) -> None:
    """Remove what is called *name*: it is asked first, and kept where somebody says so."""
    remove = rows(page, kind).get_by_role("button", name=f"Remove {name}")
    asked = rows(page, kind).get_by_role("group", name=f"Remove {name}")
    keep = asked.get_by_role("button", name="Keep it")
    for answer in ("Escape", "Enter"):
        await remove.click()
        await expect(keep).to_be_focused()
        await page.keyboard.press(answer)
        await expect(remove).to_be_focused()
    await page.reload()
    await remove.click()
    await asked.get_by_role("button", name="Yes, remove it").click()


async def test_a_password_is_changed(visitor: Visitor) -> None:
    """A wrong present one is said; afterwards the new one signs in."""
    visitor.expected = REFUSED
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await open_account(page)
        assert await page.evaluate(NAMELESS) == []
        await page.get_by_label("Present password").fill("something else")
        await page.get_by_label("New password").fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_role("alert")).to_contain_text("present password is not right")
        await page.get_by_label("Present password").fill(PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_text("Your password is changed.")).to_be_visible()
        await expect(page.get_by_text("an API key of yours go on")).to_be_visible()
        keys = page.get_by_role("link", name="Look at your API keys")
        assert await keys.get_attribute("href") == "/settings/keys"
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await page.get_by_label("E-mail").fill(visitor.email)
        await page.get_by_label("Password", exact=True).fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(box(page)).to_be_visible()


async def test_an_address_is_changed_when_both_mailboxes_say_so(guest: Visitor) -> None:
    """It waits and says so, until the links to the old and to the new address were opened."""
    old, new = "moving-from@example.com", "moving-to@example.com"
    async with guest.open() as page:
        await page.goto("/sign-in?mode=sign-up")
        await page.get_by_label("E-mail").fill(old)
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Create account").click()
        await expect(page.get_by_label("Code")).to_be_visible()
        await page.get_by_label("Code").fill((await newest_mail(page, old))["code"])
        await page.keyboard.press("Enter")
        await expect(box(page)).to_be_visible()
        await open_account(page)
        await page.get_by_label("New e-mail").fill(new)
        await page.get_by_role("button", name="Change e-mail").click()
        await expect(page.get_by_text(f"The change to {new} waits")).to_be_visible()
        await page.reload()
        for mailbox in (old, new):
            await expect(page.get_by_text(old).first).to_be_visible()
            await open_mailed_link(page, mailbox)
            await expect(page).to_have_url(re.compile("/settings/account"))
        await expect(
            page.locator("section", has_text="New e-mail").get_by_text(new)
        ).to_be_visible()
        await expect(page.get_by_text("waits: open the links")).to_be_hidden()


async def test_a_second_factor_is_asked_for_at_the_door(visitor: Visitor) -> None:
    """QR code and key, recovery codes once; then a code, or a recovery code, opens the chats."""
    visitor.expected = REFUSED
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await open_account(page)
        await page.get_by_role("button", name="Turn on").click()
        picture = page.get_by_role("img", name=re.compile("QR code"))
        await expect(picture).to_be_visible()
        assert await picture.evaluate("one => one.decode().then(() => one.naturalWidth > 0)")
        secret = await page.locator(".secret").inner_text()
        await page.get_by_label("Code").fill("000000")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("This code is wrong")
        await page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
        await page.keyboard.press("Enter")
        await expect(rows(page, "Recovery codes")).to_have_count(10)
        recovery = await rows(page, "Recovery codes").first.inner_text()
        await page.get_by_role("button", name="I have kept them").click()
        again = page.get_by_role("button", name="New recovery codes")
        await press_twice(page, again, no="Keep the old ones", yes="Yes, make new ones")
        await expect(rows(page, "Recovery codes")).to_have_count(10)
        assert recovery not in await rows(page, "Recovery codes").all_inner_texts()
        recovery = await rows(page, "Recovery codes").first.inner_text()
        await page.get_by_role("button", name="I have kept them").click()
        await expect(rows(page, "Recovery codes")).to_have_count(0)
        await expect(rows(page, "Second factors")).to_have_count(1)

        await choose(page, "Account", "Sign out")
        await page.get_by_label("E-mail").fill(visitor.email)
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.get_by_role("heading", name="One more step")).to_be_visible()
        await expect(page.get_by_label("Code")).to_be_focused()
        assert await page.evaluate(NAMELESS) == []
        await page.reload()
        await page.get_by_label("Code").fill("000000")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("This code is wrong")
        await page.get_by_role("button", name="Use a recovery code").click()
        await page.get_by_label("Recovery code").fill(recovery)
        await page.keyboard.press("Enter")
        await expect(box(page)).to_be_visible()

        await open_account(page)
        await remove_after_a_second_look(page, "Second factors", "App ")
        await expect(page.get_by_text("It is off.")).to_be_visible()


async def test_a_provider_is_unlinked_after_a_second_yes(visitor: Visitor) -> None:
    """The first press asks, with the harmless answer in focus."""
    unlinked = asyncio.Event()

    async def link(route: Route) -> None:
        told = await (await route.fetch()).json()
        one = {**told["identities"][0], "provider": "forge", "identity_id": "1", "id": "1"}
        more = [] if unlinked.is_set() else [one]
        await route.fulfill(json={**told, "identities": [*told["identities"], *more]})

    async def unlink(route: Route) -> None:
        unlinked.set()
        await route.fulfill(json={})

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await page.route("**/auth/v1/user", link)
        await page.route("**/auth/v1/user/identities/1", unlink)
        await open_account(page)
        button = page.get_by_role("button", name="Unlink forge")
        await press_twice(page, button, no="Keep it", yes="Yes, unlink it")
        await expect(button).to_be_hidden()
        assert unlinked.is_set()
        await page.unroute_all(behavior="wait")


async def test_a_passkey_is_added_named_used_and_removed(browser: Browser, server: Server) -> None:
    """It signs in with one press and no name; a removed one does not."""
    visitor = Visitor(browser, server.url.replace("127.0.0.1", "localhost"))
    visitor.expected = REFUSED
    async with visitor.open() as page:
        devtools = await webauthn(page)
        await plug_in(devtools)
        await visitor.sign_up(page)
        await open_account(page)
        await expect(page.get_by_text("You have no passkey yet.")).to_be_visible()
        await page.get_by_role("button", name="Add a passkey").click()
        await expect(rows(page, "Passkeys")).to_have_count(1)
        await rows(page, "Passkeys").get_by_role("button", name="Rename").click()
        await page.get_by_label("Name of the passkey").fill("My finger")
        await page.keyboard.press("Enter")
        await expect(rows(page, "Passkeys")).to_contain_text("My finger")

        await choose(page, "Account", "Sign out")
        await page.get_by_role("button", name="Sign in with a passkey").click()
        await expect(box(page)).to_be_visible()

        await open_account(page)
        await remove_after_a_second_look(page, "Passkeys", "My finger")
        await expect(page.get_by_text("You have no passkey yet.")).to_be_visible()
        await choose(page, "Account", "Sign out")
        await page.get_by_role("button", name="Sign in with a passkey").click()
        await expect(page.get_by_role("alert")).to_contain_text("passkey")
    assert visitor.unexpected == []


async def begin_chats(visitor: Visitor, number: int) -> None:
    """Begin so many chats as the same person, who does so with a program."""
    said = {"email": visitor.email, "password": PASSWORD}
    async with aiohttp.ClientSession(visitor.url) as http:
        async with http.post("/auth/v1/token?grant_type=password", json=said) as answer:
            token = (await answer.json())["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        for _ in range(number):
            async with http.post("/api/v1/chat/start", json={}, headers=headers) as answer:
                assert answer.status == 200, await answer.text()


async def test_more_than_goes_at_once_is_erased_to_the_end(visitor: Visitor) -> None:
    """Hundreds of chats go a part at a time, and how many that were is said in the end."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        await begin_chats(visitor, 230)
        await open_account(page)
        await page.get_by_role("button", name="Erase everything").click()
        await page.get_by_role("button", name="Yes, erase everything for good").click()
        await expect(page.get_by_text("231 chats and your settings are erased.")).to_be_visible()
        await expect(chats(page)).to_have_count(0)


async def test_everything_is_erased_after_a_second_yes(visitor: Visitor) -> None:
    """The first press asks, with the harmless answer in focus; the second one erases."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        await open_account(page)
        await page.get_by_role("button", name="Erase everything").click()
        await expect(page.get_by_role("button", name="Keep everything")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(chats(page)).to_have_count(1)
        await page.get_by_role("button", name="Erase everything").click()
        await page.get_by_role("button", name="Yes, erase everything for good").click()
        await expect(page.get_by_text("One chat and your settings are erased.")).to_be_visible()
        await expect(chats(page)).to_have_count(0)
        await page.reload()
        await expect(page.get_by_text("Your chats will be listed here.")).to_be_visible()
