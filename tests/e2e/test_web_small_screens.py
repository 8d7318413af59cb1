"""Long words and long texts on a phone, in a real Chromium: all of it is on the screen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.e2e.test_web_files_and_data import attach, to_send
from tests.e2e.test_web_pictures import PHOTO
from tests.e2e.visiting import MARKS, PASSWORD, answers, ask, box, chats

if TYPE_CHECKING:
    from playwright.async_api import FilePayload, Page, Route

    from tests.e2e.visiting import Visitor

pytestmark = MARKS

WIDTH = 360
# Everything that is wider than the screen, and not within something that scrolls by itself.
STICKS_OUT = """
() => [...document.querySelectorAll('main *, .gate *')]
  .filter((one) => one.checkVisibility() && !one.closest('pre, .table-scroll, .visually-hidden'))
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.outerHTML.slice(0, 200))
"""


async def test_long_address_fits_every_page_of_the_settings(visitor: Visitor) -> None:
    """Neither a long address nor what stands beside it is cut off."""
    async with visitor.open(width=WIDTH) as page:
        await page.goto("/sign-up")
        await page.get_by_label("E-mail").fill(f"{'somebody-with-a-long-name' * 2}@example.com")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Create account").click()
        await expect(box(page)).to_be_visible()
        for tab in ("", "/account", "/devices", "/keys", "/usage"):
            await page.goto(f"/settings{tab}")
            await expect(page.locator(".panel").first).to_be_visible()
            await expect(page.locator(".skeleton")).to_have_count(0)
            assert await page.evaluate(STICKS_OUT) == [], tab
        await page.goto("/settings")
        await page.get_by_label("Display name").fill("Rhabarberbarbara" * 5)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Settings saved.")).to_be_visible()
        await page.goto("/")
        await expect(page.get_by_role("heading", name="Rhabarberbarbara")).to_be_visible()
        assert await page.evaluate(STICKS_OUT) == []
        await page.set_viewport_size({"width": 640, "height": 400})  # as at 200 %
        await page.reload()
        greeting = page.get_by_role("heading", name="Rhabarberbarbara")
        await expect(greeting).to_be_in_viewport(ratio=1)


async def edited_height(page: Page) -> tuple[int, int]:
    """How high the text that is being edited is, and the box that shows it."""
    found = await page.get_by_label("Edit message").evaluate(
        "(one) => [one.scrollHeight, one.clientHeight]"
    )
    return found[0], found[1]


async def test_all_of_a_message_is_seen_while_it_is_edited(visitor: Visitor) -> None:
    """The box is as high as the text in it, also when more is typed."""
    async with visitor.open(width=WIDTH) as page:
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof, and it rains. " * 8)
        await page.get_by_role("article", name="You").hover()
        await page.get_by_role("button", name="Edit message").click()
        text, seen = await edited_height(page)
        assert text == seen
        await page.keyboard.type(" And it snows in the winter, too, when it is cold." * 2)
        text, later = await edited_height(page)
        assert text == later > seen


async def write_code(route: Route) -> None:
    """Give each answer a block of code in a language of a long name."""
    told = await (await route.fetch()).json()
    for one in told["messages"]:
        if one["role"] == "assistant":
            one["parts"] = [{"type": "text", "text": f"```{'verylongname' * 9}\nx = 1\n```"}]
    await route.fulfill(json=told)


async def test_code_is_copied_however_long_the_name_of_its_language(visitor: Visitor) -> None:
    """The name is cut short, and the button beside it stays."""
    async with visitor.open(width=WIDTH) as page:
        await visitor.sign_up(page)
        await page.route("**/api/v1/chat/*?limit=60", write_code)
        await ask(page, "Some code, please")
        await expect(page.get_by_role("button", name="Copy code")).to_be_in_viewport(ratio=1)


async def test_message_that_was_found_on_a_short_page_offers_no_way_down(visitor: Visitor) -> None:
    """Where everything is on the screen there is nothing to jump to."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My neighbour keeps a wolverine")
        await page.get_by_role("textbox", name="Search chats").fill("wolverine")
        found = page.get_by_role("navigation", name="Messages found").get_by_role("link")
        await found.filter(has_text="You: ").click()
        message = page.get_by_role("article", name="You")
        await expect(message).to_have_class(re.compile("is-found"))
        await expect(page.get_by_role("button", name="Jump to latest")).to_have_count(0)
        await expect(answers(page)).to_have_count(1)
        await expect(chats(page)).to_have_count(1)


async def test_page_stays_at_its_end_when_what_was_typed_goes(visitor: Visitor) -> None:
    """The box gets smaller and the page another one, and nobody has scrolled."""
    async with visitor.open(width=WIDTH) as page:
        await visitor.sign_up(page)
        photos: list[FilePayload] = [{**PHOTO, "name": f"roof {n}.png"} for n in range(7)]
        await attach(page, *photos)
        await expect(to_send(page)).to_have_count(7)
        await expect(page.get_by_text("is being uploaded")).to_have_count(0)
        await ask(page, "My castle has no roof.\n" * 6)
        await expect(page.get_by_role("button", name="Jump to latest")).to_have_count(0)
        end = answers(page).last.get_by_role("button", name="Copy answer")
        await expect(end).to_be_in_viewport()
