"""Names with characters that turn their neighbours round, in a real Chromium: nothing turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.e2e.test_web_admin import administrator
from tests.e2e.test_web_keys import keys, make_key, open_keys
from tests.e2e.visiting import MARKS, Visitor, ask, chats, choose

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from tests.e2e.visiting import Server

pytestmark = MARKS

# Shown as it stands, it has all that follows it in its line run from right to left.
NAME = "Zed דנה \u202efdp.exe"
SHOWN = "Zed דנה fdp.exe"
# What has characters that turn others round, and what stands in one line with the name unparted.
TURNED = """
(name) => {
  const turning = /[\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]/;
  const found = turning.test(document.title) ? [document.title] : [];
  for (const one of document.body.querySelectorAll('*')) {
    for (const { name, value } of one.attributes) {
      if (turning.test(value) && !/^(value|href)$/.test(name)) found.push(`${name}: ${value}`);
    }
  }
  const isOpen = ({ display, unicodeBidi }) =>
    display === 'inline' && !/isolate|plaintext/.test(unicodeBidi);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { data, parentElement } = texts.currentNode;
    if (turning.test(data) && parentElement.localName !== 'textarea') found.push(data);
    // What is said aloud, or for a moment, is a text and nothing else.
    if (!data.includes(name) || parentElement.closest('[aria-live]')) continue;
    let around = parentElement;
    while (isOpen(getComputedStyle(around))) around = around.parentElement;
    if (around.textContent.trim() !== name) found.push(`beside: ${around.textContent}`);
  }
  return found;
}
"""
CALL_ONESELF = """
async (name) => {
  const { access_token } = JSON.parse(localStorage.getItem('chatkeep:session'));
  const headers = { authorization: `Bearer ${access_token}`, 'content-type': 'application/json' };
  const body = JSON.stringify({ data: { full_name: name } });
  const answer = await fetch('/auth/v1/user', { method: 'PUT', headers, body });
  if (!answer.ok) throw new Error(await answer.text());
}
"""


async def nothing_is_turned(page: Page) -> None:
    """Look at everything on the page, once the name is there."""
    await expect(page.get_by_text(SHOWN).first).to_be_visible()
    assert await page.evaluate(TURNED, SHOWN) == []


async def call_the_chat(page: Page, name: str) -> None:
    """Rename the only chat of the list."""
    await choose(page, "Actions for", "Rename")
    await page.get_by_label("Chat title").fill(name)
    await page.keyboard.press("Enter")


async def test_names_of_ones_own_turn_nothing_round(visitor: Visitor) -> None:
    """Of a person, a chat and a key, wherever the chat shows them or says them aloud."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Let us talk about bread")
        await call_the_chat(page, NAME)
        await nothing_is_turned(page)
        await choose(page, "Actions for", "Share")
        await expect(page.get_by_role("dialog")).to_contain_text("Whoever has the link")
        await nothing_is_turned(page)
        await page.keyboard.press("Escape")
        await page.get_by_label("Search chats").fill("bread")
        await expect(page.get_by_role("heading", name="In messages")).to_be_visible()
        await expect(page.get_by_role("navigation", name="Messages found")).to_contain_text(SHOWN)
        await nothing_is_turned(page)
        await page.get_by_label("Search chats").fill(NAME)
        await expect(chats(page)).to_have_count(1)
        await page.get_by_role("button", name="Clear search").click()

        await choose(page, "Account", "Settings")
        await page.get_by_label("Display name").fill(NAME)
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator(".account-name")).to_have_text(SHOWN)
        await make_a_key_and_end_it(page)
        await page.get_by_role("button", name="New chat").first.click()
        await expect(page.get_by_role("heading", name=SHOWN)).to_be_visible()
        await nothing_is_turned(page)
        await choose(page, "Actions for", "Delete")
        await expect(page.get_by_text(f"“{SHOWN}” was deleted.")).to_be_visible()


async def make_a_key_and_end_it(page: Page) -> None:
    """Make a key of that name and revoke it, looking at each step."""
    await page.get_by_role("link", name="API keys").click()
    await make_key(page, NAME)
    await nothing_is_turned(page)
    await page.get_by_role("button", name="I have kept it").click()
    await page.get_by_role("button", name=f"Revoke {SHOWN}").click()
    await nothing_is_turned(page)
    await page.get_by_role("button", name="Yes, revoke it").click()
    await expect(keys(page)).to_contain_text("revoked")
    await nothing_is_turned(page)


async def test_names_of_others_turn_nothing_round_in_the_console(
    server: Server, browser: Browser, visitor: Visitor
) -> None:
    """Whoever administers reads what stands there, beside the names that people gave themselves."""
    eve = Visitor(browser, server.url)
    async with eve.open() as other:
        await eve.sign_up(other)
        await other.evaluate(CALL_ONESELF, NAME)
        await open_keys(other)
        await make_key(other, NAME)
    assert eve.unexpected == []
    async with visitor.open() as page:
        await administrator(server, visitor, page)
        await page.get_by_role("link", name="People").click()
        await page.get_by_role("searchbox", name="Part of an address").fill(eve.email)
        await page.get_by_role("button", name="Search").click()
        await nothing_is_turned(page)
        await page.get_by_role("link", name=eve.email, exact=True).click()
        await expect(keys(page)).to_contain_text(SHOWN)
        await nothing_is_turned(page)
        await page.get_by_role("button", name="Sign out everywhere").click()
        await page.get_by_label("Reason").fill(NAME)
        await page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
        await page.get_by_role("link", name="In the audit log").click()
        await nothing_is_turned(page)
