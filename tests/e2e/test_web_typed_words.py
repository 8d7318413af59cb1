"""What somebody types in the web chat, in a real Chromium: no press and no fault takes it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.e2e.visiting import MARKS, answers, ask, box, chats, choose, stop_button

if TYPE_CHECKING:
    from playwright.async_api import Locator, Route

    from tests.e2e.visiting import Visitor

pytestmark = MARKS

PASTE_CELLS = """
(box) => {
  const cells = new DataTransfer();
  cells.setData('text/plain', 'a\\tb');
  cells.setData('text/html', '<table></table>');
  cells.items.add(new File(['a picture of them'], 'image.png', { type: 'image/png' }));
  const told = { clipboardData: cells, bubbles: true, cancelable: true };
  return box.dispatchEvent(new ClipboardEvent('paste', told));
}
"""
FILL_THE_STORAGE = """
() => {
  let number = 0;
  for (let size = 1 << 20; size >= 1; size >>= 1) {
    try {
      for (;;) localStorage.setItem(`fill ${number++}`, 'x'.repeat(size));
    } catch {}
  }
}
"""
NOTHING_MAY_BE_KEPT = """
const denied = () => { throw new DOMException('The operation is insecure.', 'SecurityError'); };
for (const name of ['localStorage', 'sessionStorage']) {
  Object.defineProperty(window, name, { get: denied });
}
BroadcastChannel = class { constructor() { denied(); } };
navigator.locks.request = async () => denied();
"""


async def press_while_composing(place: Locator, key: str) -> None:
    """Press *key* as an input method does that is still putting a word together."""
    await place.evaluate(
        """(one, key) => one.dispatchEvent(new KeyboardEvent('keydown',
        { key, keyCode: 229, isComposing: true, bubbles: true, cancelable: true }))""",
        key,
    )


async def test_words_stay_beside_what_comes_to_them(visitor: Visitor) -> None:
    """A start, a question that comes back, a reload: each finds what was typed, and adds to it."""
    visitor.expected = ("Failed to load resource: net::ERR",)

    async def lose(route: Route) -> None:
        await route.abort()

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await box(page).fill("leave or stay")
        await page.get_by_role("button", name="Think something through").click()
        await expect(box(page)).to_have_value("Help me think through a decision: leave or stay")
        assert await box(page).evaluate(PASTE_CELLS), "text is pasted by the browser"

        await page.route("**/api/chat", lose)
        for again in (False, True):
            await box(page).fill("My first question")
            await box(page).press("Enter")
            await expect(page.get_by_text("Your message was not sent.")).to_be_visible()
            await box(page).fill("and a second one")
            if again:
                await page.reload()
            else:
                await page.get_by_role("button", name="Edit", exact=True).click()
            await expect(box(page)).to_have_value("My first question\n\nand a second one")


async def test_text_that_is_edited_outlives_a_reload_and_the_input_method(visitor: Visitor) -> None:
    """The new words of a message, of a title, and of the settings: none is lost by the way."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        await page.get_by_role("article", name="You").hover()
        await page.get_by_role("button", name="Edit message").click()
        edited = page.get_by_role("textbox", name="Edit message")
        await edited.fill("My castle has no walls")
        await press_while_composing(edited, "Escape")
        await expect(edited).to_have_value("My castle has no walls")
        await page.reload()
        await expect(edited).to_have_value("My castle has no walls")
        await edited.press("Escape")
        await expect(page.get_by_role("button", name="Edit message")).to_be_focused()

        await choose(page, "Actions for", "Rename")
        title = page.get_by_label("Chat title")
        await title.fill("Orchard")
        await press_while_composing(title, "Enter")
        await expect(title).to_have_value("Orchard")
        await title.press("Enter")
        await expect(chats(page)).to_be_focused()

        await page.emulate_media(forced_colors="active")
        await page.get_by_role("button", name="Account").click()
        settings = page.get_by_role("menuitem", name="Settings")
        await expect(settings).to_be_focused()
        await expect(settings).to_have_css("outline-style", "solid")
        await page.emulate_media(forced_colors="none")
        await settings.click()
        await page.get_by_label("Custom instructions").fill("I am a nurse.")
        await page.get_by_role("radio", name="Dark").check()
        await page.get_by_role("link", name="Devices").click()
        await expect(page.locator("html")).not_to_have_attribute("data-theme", "dark")
        await page.go_back()
        await expect(page.get_by_label("Custom instructions")).to_have_value("I am a nurse.")
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.get_by_role("button", name="Discard").click()
        await page.get_by_role("button", name="Undo").click()
        await expect(page.get_by_label("Custom instructions")).to_have_value("I am a nurse.")
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.get_by_role("button", name="Discard").click()
        await page.reload()
        await expect(page.get_by_label("Custom instructions")).to_have_value("")


async def test_question_that_was_not_sent_waits_whatever_fails_late(visitor: Visitor) -> None:
    """Reading the answer before it again fails after it did, and it can still be sent."""
    visitor.expected = ("Failed to load resource: net::ERR",)
    reading, asked = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        reading.set()
        await asked.wait()
        await route.abort()

    async def lose(route: Route) -> None:
        await route.abort()

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await page.route("**/api/v1/chat/*?limit=60", hold)
        await ask(page, "سقف القلعة يسرب الماء")
        await reading.wait()
        await page.route("**/api/chat", lose)
        await box(page).fill("And it rains")
        await box(page).press("Enter")
        again = page.get_by_role("button", name="Send again")
        await expect(again).to_be_visible()
        async with page.expect_event("requestfailed"):
            asked.set()
        await page.unroute_all()
        await again.click()
        await expect(answers(page)).to_have_count(2)
        # Its beginning is on the right, and what does not fit is left out at its end.
        await expect(chats(page)).to_have_css("direction", "rtl")


async def test_second_half_of_a_double_click_stops_nothing(visitor: Visitor) -> None:
    """Where one sends one stops a moment later; who has a mouse types on after either."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await box(page).fill("Tell me a story, please")
        await page.get_by_role("button", name="Send message").dblclick()
        await expect(answers(page)).to_contain_text(re.compile("[^§]{40,}"))
        await expect(stop_button(page)).to_be_visible()
        await expect(box(page)).to_be_focused()
        await stop_button(page).click()
        await expect(page.get_by_text("You stopped this answer.")).to_be_visible()
        await expect(box(page)).to_be_focused()


async def test_browser_that_keeps_nothing_shows_the_chat(visitor: Visitor) -> None:
    """As browsers do where somebody denies all cookies: no storage, no channels, no locks."""
    visitor.expected = ("Failed to create a new BroadcastChannel",)
    async with visitor.open() as page:
        await page.add_init_script(NOTHING_MAY_BE_KEPT)
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")


async def test_full_storage_ends_no_session_and_takes_no_words(visitor: Visitor) -> None:
    """A reload finds both, and signing out in another window leaves nothing of the words."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await box(page).fill("half")
        await page.evaluate(FILL_THE_STORAGE)
        await box(page).fill("half a thought")
        await page.reload()
        await expect(box(page)).to_have_value("half a thought")
        other = await visitor.page(page.context)
        await other.goto("/")
        await choose(other, "Account", "Sign out")
        await expect(page).to_have_url(re.compile("/sign-in$"))
        await visitor.sign_in(page)
        await expect(box(page)).to_have_value("")


async def test_models_are_looked_for_while_the_keyboard_is_on_the_glass(visitor: Visitor) -> None:
    """It takes half of the height, and the list that it came for stays."""
    models = [{"id": f"m{number}", "name": f"Model {number}"} for number in range(9)]

    async def offer(route: Route) -> None:
        await route.fulfill(json={"default": "m0", "models": models})

    async with visitor.open(width=360) as page:
        await page.route("**/api/models", offer)
        await visitor.sign_up(page)
        await page.get_by_role("button", name="Model:").click()
        await page.get_by_label("Find a model").fill("8")
        await page.set_viewport_size({"width": 360, "height": 380})
        await page.get_by_role("option", name="Model 8").click()
        await expect(page.get_by_role("button", name="Model: Model 8")).to_be_visible()
