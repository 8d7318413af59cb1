"""Finding what was said, and showing a chat to somebody else, in a real Chromium."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.async_api import expect

from tests.e2e.test_web_files_and_data import of_chatgpt, open_account
from tests.e2e.visiting import (
    MARKS,
    NAMELESS,
    answers,
    ask,
    box,
    chats,
    choose,
    copied,
    press_twice,
)

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Locator, Page, Request

    from tests.e2e.visiting import Visitor

pytestmark = MARKS

# What a model writes, and what somebody would like it to have written.
ANSWER = """## The plan

It is **bold**, and `short`.

| step | what |
| --- | --- |
| 1 | dig |

```python
print("a roof")
```

- [a page](https://example.com/a) and [a trap](javascript:document.title='caught')
- <b onclick="document.title='caught'">raw</b> <script>document.title = 'caught'</script>
- ![a picture](https://example.com/track.png) ![another](x "onerror=alert(1)")
"""


def found(page: Page) -> Locator:
    """The messages that a search has found."""
    return page.get_by_role("navigation", name="Messages found").get_by_role("link")


async def search(page: Page, words: str) -> None:
    """Look for *words* as a person does."""
    await page.keyboard.press("Control+k")
    await page.keyboard.type(words)


async def shared_link(page: Page) -> str:
    """Make a link to the first chat of the list and return it, leaving the window open."""
    await chats(page).first.hover()
    await choose(page, "Actions for", "Share")
    await page.get_by_role("button", name="Make a link").click()
    return await page.get_by_label("Link to this chat").input_value()


async def test_what_was_said_is_found_where_it_was_said(visitor: Visitor) -> None:
    """A word from the middle of a chat, which no title has, leads to its message."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Let us talk about bread")
        await ask(page, "My neighbour keeps a wolverine in the attic")
        for number in range(3):
            await ask(page, f"And then it was quiet {number}")
        await page.get_by_role("button", name="New chat").first.click()
        await search(page, "wolverine")
        await expect(page.get_by_text("No chat is titled like “wolverine”.")).to_be_visible()
        await expect(found(page).first.locator("mark").first).to_have_text("wolverine")
        await found(page).filter(has_text="You: ").click()
        await expect(page).to_have_url(re.compile("/c/[0-9a-f-]{36}$"))
        message = page.get_by_role("article", name="You").filter(has_text="wolverine")
        await expect(message).to_be_in_viewport()
        await expect(message).to_have_class(re.compile("is-found"))


async def test_search_that_finds_nothing_says_so(visitor: Visitor) -> None:
    """Titles and messages each say that there is none, and clearing brings the list back."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Let us talk about bread")
        await search(page, "zeppelin")
        await expect(page.get_by_text("No message has all of these words.")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(chats(page)).to_have_count(1)
        await expect(found(page)).to_have_count(0)


async def test_shared_chat_is_read_by_a_stranger_until_it_is_ended(visitor: Visitor) -> None:
    """Somebody who is not signed in sees what was said before the link, and nothing after."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        link = await shared_link(page)
        assert re.fullmatch(rf"{re.escape(visitor.url)}/s/[A-Za-z0-9_-]{{20,}}", link)
        await page.get_by_role("button", name="Copy link").click()
        await copied(page, link)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await ask(page, "And a secret cellar")
        async with visitor.open() as stranger:
            await stranger.goto(link)
            await expect(stranger.locator("body")).to_contain_text("My castle has no roof")
            await expect(stranger.locator("body")).not_to_contain_text("secret cellar")
        await chats(page).first.hover()
        await choose(page, "Actions for", "Share")
        end = page.get_by_role("button", name="End it now")
        await press_twice(page, end, no="Keep it", yes="Yes, end it")  # in its window
        await expect(page.get_by_role("list", name="Links to this chat")).to_be_hidden()
        visitor.expected = ("Failed to load resource: the server responded with a status of 404",)
        async with visitor.open() as stranger:
            await stranger.goto(link)
            await expect(stranger.get_by_role("heading")).to_have_text("This link has ended")


async def share_answer(page: Page, folder: Path, answer: str) -> str:
    """Bring a chat with *answer* along and return a link to it."""
    chat = of_chatgpt(1)
    chat["mapping"]["a"]["message"]["content"]["parts"] = ["**Not bold**\n  <i>and as typed</i>"]
    chat["mapping"]["b"]["message"]["content"]["parts"] = [answer]
    (folder / "conversations.json").write_text(json.dumps([chat]))
    await open_account(page)
    await page.get_by_label("Export to import").set_input_files(folder / "conversations.json")
    await expect(chats(page)).to_have_count(1)
    return await shared_link(page)


async def test_shared_answer_looks_as_in_the_chat(visitor: Visitor, tmp_path: Path) -> None:
    """Markdown is shown, nothing in it runs or calls anybody, and code can be copied."""
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    async with visitor.open() as page:
        await visitor.sign_up(page)
        link = await share_answer(page, tmp_path, ANSWER)
    async with visitor.open(width=360, scheme="dark") as stranger:
        stranger.on("request", note)
        await stranger.goto(link)
        await expect(stranger.get_by_role("heading", name="The plan")).to_be_visible()
        await expect(stranger.locator("strong")).to_have_text(["bold"])
        await expect(stranger.get_by_role("cell")).to_have_text(["1", "dig"])
        await expect(stranger.locator(".hljs-string")).to_have_text('"a roof"')
        await expect(stranger.locator(".user .said")).to_have_text(re.compile(r"^\*\*Not bold\*\*"))
        await expect(stranger.get_by_role("link", name="a page")).to_have_attribute(
            "rel", "noopener noreferrer nofollow"
        )
        assert await stranger.locator('[href^="javascript"], [onclick], [onerror]').count() == 0
        assert await stranger.locator("main script, b, i").count() == 0
        await stranger.get_by_text("raw").click()
        await stranger.get_by_role("button", name="Copy code").click()
        await copied(stranger, 'print("a roof")')
        # Not the one that was brought along: it may tell of what the link does not show.
        assert await stranger.title() == "Not bold <i>and as typed</i>"
        assert await stranger.evaluate(NAMELESS) == []
        assert await stranger.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert asked
    assert [url for url in asked if not url.startswith(visitor.url)] == []


async def test_shared_chat_is_read_without_scripts(visitor: Visitor, tmp_path: Path) -> None:
    """Whoever lets no page run anything reads the same words."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        link = await share_answer(page, tmp_path, ANSWER)
    context = await visitor.browser.new_context(java_script_enabled=False)
    stranger = await visitor.page(context)
    try:
        await stranger.goto(link)
        await expect(stranger.locator(".said")).to_contain_text(["Not bold", "It is **bold**"])
    finally:
        await context.close()


async def test_share_window_keeps_the_focus_and_gives_it_back(visitor: Visitor) -> None:
    """Esc closes it without stopping the answer behind it, and a person goes on where they were."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        await chats(page).first.hover()
        menu = page.get_by_role("button", name="Actions for")
        await choose(page, "Actions for", "Share")
        await expect(page.get_by_role("dialog", name="Share this chat")).to_be_visible()
        assert await page.evaluate(NAMELESS) == []
        for _ in range(6):
            await page.keyboard.press("Tab")
            # The browser's own frame may have it between the last and the first.
            outside = "document.activeElement.closest('#root') !== null"
            assert not await page.evaluate(outside)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(menu).to_be_focused()
        await expect(answers(page)).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_is_wider_than_the_screen(
    visitor: Visitor, width: int, scheme: Literal["light", "dark"]
) -> None:
    """Nothing is wider than the screen, and everything has a name."""
    async with visitor.open(width=width, scheme=scheme) as page:
        await visitor.sign_up(page)
        await ask(page, "Averylongwordwithoutanyspacewhatsoever" * 5)
        if width < 800:
            await page.get_by_role("button", name="Open sidebar").click()
        await page.get_by_role("textbox", name="Search chats").fill("Averylongword")
        await expect(page.get_by_role("navigation", name="Messages found")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("navigation", name="Messages found")).to_be_hidden()
        await shared_link(page)
        fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert await page.evaluate(fits)
        assert await page.evaluate(NAMELESS) == []


async def test_address_of_the_sign_up_form_shows_it(visitor: Visitor) -> None:
    """Links in a mail or on a page of one's own lead there, and on to the first chat."""
    async with visitor.open() as page:
        await page.goto("/")
        await expect(page.get_by_role("heading")).to_have_text("Welcome")
        await page.goto("/sign-up")
        await expect(page.get_by_role("heading")).to_have_text("Create your account")
        await visitor.sign_up(page)
        await page.goto("/sign-up")
        await expect(box(page)).to_be_visible()
