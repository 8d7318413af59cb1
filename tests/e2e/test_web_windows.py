"""Two windows of one browser, side by side, in a real Chromium: both show the same."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.e2e.visiting import MARKS, answers, ask, box, chats, choose, said

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

    from tests.e2e.visiting import Visitor

pytestmark = MARKS


async def write_footnotes(route: Route) -> None:
    """Give each answer one."""
    told = await (await route.fetch()).json()
    wrote = [one for one in told["messages"] if one["role"] == "assistant"]
    for number, one in enumerate(wrote):
        text = f"A claim[^1].\n\n[^1]: The note of {number}."
        one["parts"] = [{"type": "text", "text": text}]
    await route.fulfill(json=told)


async def test_what_one_window_asks_the_other_shows(visitor: Visitor) -> None:
    """Question, answer and list, without anybody touching the other window."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Apples are red")
        other = await visitor.page(page.context)
        await other.goto(page.url)
        await expect(answers(other)).to_have_count(1)
        await ask(page, "Pears are green")
        await expect(answers(other)).to_have_count(2)
        assert await said(answers(other).last) == await said(answers(page).last)
        await ask(other, "Plums are blue")
        await expect(answers(page)).to_have_count(3)
        await choose(page, "Actions for Apples", "Rename")
        await page.get_by_label("Chat title").fill("Orchard")
        await page.keyboard.press("Enter")
        await expect(chats(other).get_by_text("Orchard")).to_be_visible()


async def test_chat_that_is_deleted_in_another_window_says_so(visitor: Visitor) -> None:
    """There is a way on, and when it is brought back it is there again."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 403",)
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Apples are red")
        other = await visitor.page(page.context)
        await other.goto(page.url)
        await expect(answers(other)).to_have_count(1)
        await choose(page, "Actions for Apples", "Delete")
        gone = other.get_by_text("This chat was deleted")
        await expect(gone).to_be_visible()
        await expect(chats(other)).to_have_count(0)
        await page.get_by_role("button", name="Undo").click()
        await expect(gone).to_be_hidden()
        await expect(chats(other)).to_have_count(1)
        await choose(page, "Actions for Apples", "Delete")
        await gone.locator("..").get_by_role("button", name="New chat").click()
        await expect(other).to_have_url(re.compile("/$"))


async def test_each_window_has_a_new_chat_of_its_own(visitor: Visitor) -> None:
    """What is typed in one is not overwritten in another; the next takes over what was left."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await box(page).fill("the first thought")
        other = await visitor.page(page.context)
        await other.goto("/")
        await expect(box(other)).to_have_value("")
        await box(other).fill("the second thought")
        async with page.expect_popup() as opening:  # as a tab that is duplicated, with its memory
            await page.evaluate("void window.open('/')")
        copy = await opening.value
        await expect(box(copy)).to_have_value("")
        await box(copy).fill("the third thought")
        for window, words in ((page, "first"), (other, "second"), (copy, "third")):
            await window.reload()
            await expect(box(window)).to_have_value(f"the {words} thought")
        await other.close()
        heir = await visitor.page(page.context)
        await heir.goto("/")
        await expect(box(heir)).to_have_value("the second thought")
        kept = await page.context.storage_state()
    found = set()
    async with visitor.open(stored=kept) as page:  # as after a crash, which no window outlives
        windows = [page, *[await visitor.page(page.context) for _ in range(3)]]
        for window in windows:
            await window.goto("/")
            await expect(box(window)).to_be_visible()
            found.add(await box(window).input_value())
        assert found == {"", "the first thought", "the second thought", "the third thought"}
        await choose(page, "Account", "Sign out")
        await expect(page).to_have_url(re.compile("/sign-in$"))
        await visitor.sign_in(page)
        await expect(box(page)).to_have_value("")


async def type_everywhere(page: Page, words: str) -> None:
    """Type *words* below the chat that is open, in its question, and in the settings."""
    await page.get_by_role("article", name="You").hover()
    await page.get_by_role("button", name="Edit message").click()
    await page.get_by_role("textbox", name="Edit message").fill(f"Apples and {words}")
    await page.get_by_role("textbox", name="Message", exact=True).fill(words)
    await choose(page, "Account", "Settings")
    await page.get_by_label("Custom instructions").fill(f"I like {words}.")
    await page.go_back()


async def words_are_there(page: Page, words: str) -> None:
    """Look where they were typed."""
    typed = page.get_by_role("textbox", name="Message", exact=True)
    await expect(typed).to_have_value(words)
    edited = page.get_by_role("textbox", name="Edit message")
    await expect(edited).to_have_value(f"Apples and {words}")
    await choose(page, "Account", "Settings")
    await expect(page.get_by_label("Custom instructions")).to_have_value(f"I like {words}.")


async def test_each_window_has_its_own_words_in_one_chat(visitor: Visitor) -> None:
    """What is typed in one is not overwritten in another; the next takes over what was left."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Apples are red")
        address = page.url
        other = await visitor.page(page.context)
        await other.goto(address)
        await type_everywhere(page, "pears")
        await type_everywhere(other, "plums")
        for window, words in ((page, "pears"), (other, "plums")):
            await window.reload()
            await words_are_there(window, words)
        await other.close()
        heir = await visitor.page(page.context)
        await heir.goto(address)
        await words_are_there(heir, "plums")
        third = await visitor.page(page.context)
        await third.goto(address)
        await expect(box(third)).to_have_value("")


async def test_window_where_nobody_signed_out_promises_nothing(visitor: Visitor) -> None:
    """Who leaves in one window leaves both, and what was typed is not said to be kept."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        other = await visitor.page(page.context)
        await other.goto("/")
        await box(other).fill("half a thought")
        await choose(page, "Account", "Sign out")
        await expect(other).to_have_url(re.compile("/sign-in$"))
        await expect(other.get_by_role("heading", name="Welcome")).to_be_visible()
        await expect(other.get_by_text("is kept")).to_have_count(0)
        await visitor.sign_in(other)
        await expect(box(other)).to_have_value("")


async def test_end_of_a_session_that_comes_late_does_not_end_the_next(visitor: Visitor) -> None:
    """Neither what a request of before is told, nor what another window tells."""
    visitor.expected = (
        "Failed to load resource: the server responded with a status of 400",
        "Failed to load resource: the server responded with a status of 401",
        "Failed to load resource: the server responded with a status of 403",
    )
    refreshing, signed_in, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def refuse(route: Route) -> None:
        await route.fulfill(status=401, json={"code": "token_revoked", "detail": "Ended."})

    async def hold(route: Route) -> None:
        if "grant_type=refresh_token" not in route.request.url or refused.is_set():
            await route.fallback()
            return
        refreshing.set()
        await signed_in.wait()
        await route.fulfill(status=400, json={"error_code": "session_not_found", "msg": "Ended."})
        refused.set()

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await page.route("**/auth/v1/token?*", hold)
        await page.route("**/api/v1/chat?*", refuse, times=1)
        await page.reload()
        await refreshing.wait()
        await choose(page, "Account", "Sign out")
        await expect(page).to_have_url(re.compile("/sign-in$"))
        await visitor.sign_in(page)
        signed_in.set()
        await refused.wait()
        other = await visitor.page(page.context)
        await other.goto("/")
        await other.evaluate(
            "new BroadcastChannel('chatkeep:session')"
            ".postMessage({event: 'SIGNED_OUT', session: null})"
        )
        await ask(page, "Am I still here?")
        await expect(answers(page)).to_have_count(1)
        await expect(page.get_by_role("heading", name="Welcome")).to_have_count(0)


async def test_footnote_leads_to_its_note_and_back(visitor: Visitor) -> None:
    """On this page, within this answer, although another has a footnote of that name."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Apples are red")
        await ask(page, "Pears are green")
        await page.route("**/api/v1/chat/*?limit=*", write_footnotes)
        await page.reload()
        second = answers(page).nth(1)
        await second.get_by_role("link", name="1", exact=True).click()
        await expect(second.locator("li:focus")).to_contain_text("The note of 1.")
        await second.get_by_role("link", name="Back to reference 1").click()
        await expect(second.get_by_role("link", name="1", exact=True)).to_be_focused()
        assert len(page.context.pages) == 1


async def test_page_of_an_older_version_loads_the_newer_one(visitor: Visitor) -> None:
    """A part that is not there any more is no broken page, and what was typed is kept."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 404",)

    async def gone(route: Route) -> None:
        await route.fulfill(status=404)

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await box(page).fill("half a thought")
        await page.route("**/assets/settings-page-*.js", gone, times=1)
        await choose(page, "Account", "Settings")
        await expect(page.get_by_role("heading", name="Settings")).to_be_visible()
        await page.go_back()
        await expect(box(page)).to_have_value("half a thought")


async def test_part_that_never_comes_is_said_once(visitor: Visitor) -> None:
    """The page does not go round in circles: it says that it stopped, and how to go on."""
    visitor.expected = (
        "Failed to load resource: the server responded with a status of 404",
        "TypeError: Failed to fetch dynamically imported module",
        "Failed to fetch dynamically imported module",
        "%o",
    )

    async def gone(route: Route) -> None:
        await route.fulfill(status=404)

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await page.route("**/assets/settings-page-*.js", gone)
        await choose(page, "Account", "Settings")
        await expect(page.get_by_role("heading", name="This page stopped working")).to_be_visible()
        await page.unroute_all()
        await page.get_by_role("button", name="Load it again").click()
        await expect(page.get_by_role("heading", name="Settings")).to_be_visible()
