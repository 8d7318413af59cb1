"""API keys in a real Chromium: made, seen once, used by a program, revoked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import aiohttp
import pytest
from playwright.async_api import expect

from tests.e2e.visiting import MARKS, NAMELESS, choose, copied

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page, Route

    from tests.e2e.visiting import Visitor

pytestmark = MARKS

REFUSED = ("Failed to load resource: the server responded with a status of 40",)


def keys(page: Page) -> Locator:
    """The rows of the list of keys."""
    return page.get_by_role("list", name="API keys").get_by_role("listitem")


async def open_keys(page: Page) -> None:
    """Go to the page of keys as a person does."""
    await choose(page, "Account", "Settings")
    await page.get_by_role("link", name="API keys").click()
    await expect(page.get_by_role("heading", name="API keys")).to_be_visible()


async def make_key(page: Page, name: str) -> str:
    """Make a key and return it as the page shows it, leaving it on the page."""
    await page.get_by_role("button", name="New key").click()
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_role("button", name="Make key").click()
    return await page.get_by_test_id("new-key").inner_text()


async def models_with(url: str, key: str) -> int:
    """Return the status with which a program that has *key* is answered."""
    headers = {"authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/v1/models", headers=headers) as answer,
    ):
        return answer.status


async def wider_than_the_window(page: Page) -> bool:
    """Whether one would have to scroll sideways."""
    found: bool = await page.evaluate(
        "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )
    return found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
async def test_a_key_is_made_copied_used_and_revoked(
    visitor: Visitor, width: int, scheme: Literal["light", "dark"]
) -> None:
    """It is shown once, a program works with it, and from the click on it does not."""
    async with visitor.open() as first:
        await visitor.sign_up(first)
        stored = await first.context.storage_state()
    async with visitor.open(stored=stored, width=width, scheme=scheme) as page:
        await page.goto("/settings/keys")
        await expect(page.get_by_text("You have no keys yet.")).to_be_visible()
        assert await page.evaluate(NAMELESS) == []
        await page.get_by_role("button", name="New key").click()
        assert await page.evaluate(NAMELESS) == []
        assert not await wider_than_the_window(page)
        await expect(page.get_by_label("Name", exact=True)).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="New key")).to_be_focused()

        key = await make_key(page, "My laptop")
        assert key.startswith("ck_")
        assert not await wider_than_the_window(page)
        await page.get_by_role("button", name="Copy key").click()
        await copied(page, key)
        assert await models_with(visitor.url, key) == 200
        await page.get_by_role("button", name="I have kept it").click()
        await expect(page.get_by_test_id("new-key")).to_be_hidden()
        await page.reload()
        await expect(keys(page)).to_have_count(1)
        await expect(keys(page)).to_contain_text("My laptop")
        await expect(keys(page)).to_contain_text(f"{key[:9]}…")
        await expect(keys(page)).to_contain_text("chat, models:read")
        await expect(keys(page)).to_contain_text("last used")
        assert key not in await page.content()

        await page.get_by_role("button", name="Revoke My laptop").click()
        await page.get_by_role("button", name="Keep it").click()
        assert await models_with(visitor.url, key) == 200
        await page.get_by_role("button", name="Revoke My laptop").click()
        await page.get_by_role("button", name="Yes, revoke it").click()
        await expect(keys(page)).to_contain_text("revoked")
        assert await models_with(visitor.url, key) == 401
        assert not await wider_than_the_window(page)


async def test_scopes_and_expiry_are_chosen(visitor: Visitor) -> None:
    """What is ticked is what the key may do; with nothing ticked there is no key."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await open_keys(page)
        await page.get_by_role("button", name="New key").click()
        await page.get_by_label("Name", exact=True).fill("Reader")
        await page.get_by_role("checkbox", name="chat", exact=True).uncheck()
        await page.get_by_role("checkbox", name="models:read").uncheck()
        await expect(page.get_by_role("button", name="Make key")).to_be_disabled()
        await page.get_by_role("checkbox", name="usage:read").check()
        await page.get_by_label("Expires after").select_option("7")
        await page.get_by_role("button", name="Make key").click()
        key = await page.get_by_test_id("new-key").inner_text()
        await expect(keys(page)).to_contain_text("usage:read")
        await expect(keys(page)).not_to_contain_text("chat")
        assert await models_with(visitor.url, key) == 403


async def test_an_old_sign_in_is_asked_for_a_new_one(visitor: Visitor) -> None:
    """The page says why, and after signing in again one is back where one was."""
    visitor.expected = REFUSED

    async def too_old(route: Route) -> None:
        if route.request.method != "POST":
            await route.continue_()
            return
        await route.fulfill(
            status=401,
            headers={
                "content-type": "application/problem+json",
                "www-authenticate": 'Bearer error="insufficient_user_authentication"',
            },
            body=json.dumps({"code": "step_up_required", "detail": "Sign in again."}),
        )

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await open_keys(page)
        await page.route("**/api/keys", too_old)
        await page.get_by_role("button", name="New key").click()
        await page.get_by_label("Name", exact=True).fill("Late")
        await page.get_by_role("button", name="Make key").click()
        await expect(page.get_by_role("alert")).to_contain_text("fresh sign-in")
        await page.unroute("**/api/keys")
        await page.get_by_role("button", name="Sign in again").click()
        await expect(page.get_by_text("Sign in again to go on.")).to_be_visible()
        await page.get_by_label("E-mail").fill(visitor.email)
        await page.get_by_label("Password", exact=True).fill("a long and quiet password")
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.get_by_role("button", name="New key")).to_be_visible()
        await make_key(page, "Late")
