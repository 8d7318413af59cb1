"""The web chat in a real Chromium, against `chatkeep serve` with a data folder of its own."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.async_api import expect

from tests.e2e.visiting import (
    MARKS,
    NAMELESS,
    Server,
    Visitor,
    answers,
    ask,
    begin_story,
    box,
    chats,
    choose,
    said,
    stop_button,
)
from tests.free_ports import free_port
from tests.serving import until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Page, Route

    from tests.e2e.conftest import Settle

pytestmark = MARKS


async def test_a_chat_is_there_after_closing_the_browser(visitor: Visitor) -> None:
    """Sign up, chat, close everything; the next day the chat is in the list and opens."""
    async with visitor.open() as page:
        await page.goto("/")
        await expect(page).to_have_url(re.compile("/sign-in$"))
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        await expect(answers(page).last).to_contain_text("chatkeep/eliza")
        answer = await said(answers(page).last)
        await expect(page).to_have_url(re.compile("/c/[0-9a-f-]{36}$"))
        await expect(chats(page)).to_have_count(1)
        kept = await page.context.storage_state()
    async with visitor.open(stored=kept) as page:
        await page.goto("/")
        await chats(page).get_by_text("castle").click()
        await expect(page.get_by_role("article", name="You")).to_have_text(re.compile("no roof"))
        assert await said(answers(page).last) == answer
        await expect(page).to_have_title(re.compile("castle.* · Chatkeep"))


async def test_an_answer_plays_on_after_a_reload(visitor: Visitor) -> None:
    """What was said before the reload is there once, and more of it comes."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        before = await begin_story(page)
        await page.reload()
        await expect(stop_button(page)).to_be_visible()
        least = len(before) + 100
        await expect(answers(page).last).to_contain_text(re.compile(rf"[^§]{{{least},}}"))
        await expect(answers(page)).to_have_count(1)
        await expect(page.get_by_role("article", name="You")).to_have_count(1)
        assert (await said(answers(page).last)).startswith(before[:60])
        await page.keyboard.press("Escape")
        await expect(page.get_by_text("You stopped this answer.")).to_be_visible()


async def test_an_answer_can_be_stopped_from_another_window(visitor: Visitor) -> None:
    """Both windows show where it ended."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await begin_story(page)
        other = await visitor.page(page.context)
        await other.goto(page.url)
        await stop_button(other).click()
        for window in (other, page):
            await expect(window.get_by_text("You stopped this answer.")).to_be_visible()
            await expect(stop_button(window)).to_be_hidden()


async def test_chats_are_renamed_found_deleted_and_brought_back(visitor: Visitor) -> None:
    """The sidebar does what it says, and the server remembers it."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Apples are red")
        await page.keyboard.press("Control+Shift+O")
        await expect(page).to_have_url(re.compile("/$"))
        await ask(page, "Pears are green")
        await expect(chats(page)).to_have_count(2)

        await choose(page, "Actions for Apples", "Rename")
        await page.get_by_label("Chat title").fill("Orchard")
        await page.keyboard.press("Enter")
        await expect(chats(page).get_by_text("Orchard")).to_be_visible()

        await page.keyboard.press("Control+k")
        await page.keyboard.type("orch")
        await expect(chats(page)).to_have_count(1)
        await page.get_by_role("button", name="Clear search").click()
        await expect(chats(page)).to_have_count(2)

        await choose(page, "Actions for Orchard", "Delete")
        await expect(chats(page)).to_have_count(1)
        await page.get_by_role("button", name="Undo").click()
        await expect(chats(page)).to_have_count(2)
        await page.reload()
        await expect(chats(page).get_by_text("Orchard")).to_be_visible()


async def test_deleting_the_open_chat_closes_it(visitor: Visitor) -> None:
    """A new chat takes its place, and undoing opens it again, above whatever is typed there."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Plums are blue")
        await choose(page, "Actions for Plums", "Delete")
        await expect(page).to_have_url(re.compile("/$"))
        await expect(answers(page)).to_have_count(0)
        undo = page.get_by_role("button", name="Undo")
        await undo.hover()
        await box(page).fill("My boat is leaking.\n" * 20)

        async def stands_above() -> bool:
            end = await undo.evaluate("(one) => one.getBoundingClientRect().bottom")
            return bool(end < await box(page).evaluate("(one) => one.getBoundingClientRect().top"))

        await until(stands_above)
        await undo.click()
        await expect(page).to_have_url(re.compile("/c/"))
        await expect(answers(page)).to_have_count(1)


async def test_edits_and_new_answers_are_versions(visitor: Visitor) -> None:
    """Nothing is overwritten: one can go back to every version."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My dog sleeps")
        await page.get_by_role("button", name="Answer again").click()
        await expect(page.get_by_text("Version 2 of 2")).to_be_visible()
        await expect(stop_button(page)).to_be_hidden()
        await page.get_by_role("button", name="Previous version").click()
        await expect(page.get_by_text("Version 1 of 2")).to_be_visible()

        question = page.get_by_role("article", name="You")
        await question.hover()
        await page.get_by_role("button", name="Edit message").click()
        await page.get_by_label("Edit message").fill("My cat sleeps")
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(question.get_by_text("Version 2 of 2")).to_be_visible()
        await expect(stop_button(page)).to_be_hidden()
        await page.reload()
        await expect(question).to_contain_text("My cat sleeps")
        await question.get_by_role("button", name="Previous version").click()
        await expect(question).to_contain_text("My dog sleeps")
        await expect(answers(page).get_by_text("Version 2 of 2")).to_be_visible()


async def test_a_chat_goes_on_in_two_directions(visitor: Visitor) -> None:
    """A copy up to an answer is a chat of its own; the first one stays as it is."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "Apples are red")
        await ask(page, "Pears are green")
        first = page.url
        await page.get_by_role("button", name="Go on in a new chat").first.click()
        await expect(page).not_to_have_url(first)
        await expect(chats(page)).to_have_count(2)
        asked = page.get_by_role("article", name="You").locator(".bubble")
        await expect(asked).to_have_text(["Apples are red"])
        await ask(page, "Plums are blue")
        await expect(asked).to_have_text(["Apples are red", "Plums are blue"])
        await page.goto(first)
        await expect(asked).to_have_text(["Apples are red", "Pears are green"])


async def test_settings_are_saved_and_a_newer_version_is_not_overwritten(visitor: Visitor) -> None:
    """Two windows change settings: the later one is told and nothing is lost."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 412",)
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await choose(page, "Account", "Settings")
        await page.get_by_label("Display name").fill("Ana")
        await page.get_by_role("radio", name="Dark").check()
        other = await visitor.page(page.context)
        await other.goto("/settings")
        await other.get_by_label("System prompt").fill("Speak like a gardener.")
        await other.get_by_role("button", name="Save").click()
        await expect(other.get_by_text("Settings saved.")).to_be_visible()

        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("changed somewhere else")).to_be_visible()
        await expect(page.get_by_label("System prompt")).to_have_value("Speak like a gardener.")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Settings saved.")).to_be_visible()
        await page.goto("/")
        await expect(page.get_by_role("heading", name=re.compile("Ana"))).to_be_visible()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_the_next_person_at_the_same_browser_sees_nothing(visitor: Visitor) -> None:
    """Signing out leaves nothing behind, and somebody else's chat looks like none."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 403",)
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My secret is a lake")
        address = page.url
        await box(page).fill("half a thought")
        await choose(page, "Account", "Sign out")
        await expect(page).to_have_url(re.compile("/sign-in$"))
        assert await page.evaluate("Object.keys(localStorage)") == []

        await visitor.sign_up(page)
        await expect(page.get_by_text("Your chats will be listed here.")).to_be_visible()
        await expect(box(page)).to_have_value("")
        await page.goto(address)
        await expect(page.get_by_role("heading", name="This chat is not here")).to_be_visible()
        await expect(page.get_by_text("lake")).to_have_count(0)


async def test_typed_text_outlives_the_session(visitor: Visitor) -> None:
    """When the session cannot be refreshed one signs in again, and the words are still there."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 40",)

    async def refuse_token(route: Route) -> None:
        problem = {"code": "token_expired", "status": 401, "detail": "Invalid or expired token"}
        await route.fulfill(status=401, json=problem)

    async def refuse_refresh(route: Route) -> None:
        problem = {"code": "refresh_token_not_found", "message": "Invalid Refresh Token"}
        headers = {"x-supabase-api-version": "2024-01-01"}
        await route.fulfill(status=400, json=problem, headers=headers)

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        await page.route("**/api/chat", refuse_token)
        await page.route("**/auth/v1/token**", refuse_refresh)
        await box(page).fill("A thought that took an hour")
        await box(page).press("Enter")
        await expect(page.get_by_text("Your session has ended.")).to_be_visible()
        await page.unroute_all()
        await visitor.sign_in(page)
        await expect(answers(page)).to_have_count(1)
        await expect(box(page)).to_have_value("A thought that took an hour")


async def test_what_could_not_be_sent_is_sent_later(visitor: Visitor) -> None:
    """Offline, a message waits on the page until it can go; it is asked once."""
    visitor.expected = ("Failed to load resource: net::ERR_INTERNET_DISCONNECTED",)
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await page.context.set_offline(offline=True)
        await expect(page.get_by_text("You are offline.")).to_be_visible()
        await box(page).fill("My train is in a tunnel")
        await box(page).press("Enter")
        await expect(page.get_by_text("Your message was not sent.")).to_be_visible()
        await page.context.set_offline(offline=False)
        await page.get_by_role("button", name="Send again").click()
        await expect(answers(page)).to_have_count(1)
        await expect(stop_button(page)).to_be_hidden()
        await expect(page.get_by_role("article", name="You")).to_have_count(1)


async def test_a_limit_counts_down(visitor: Visitor) -> None:
    """Too many requests: the page says how long, and then lets it be sent again."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 429",)

    async def refuse(route: Route) -> None:
        problem = {"code": "rate_limited", "status": 429, "detail": "Too many requests."}
        await route.fulfill(status=429, json=problem, headers={"retry-after": "2"})

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await page.route("**/api/chat", refuse)
        await box(page).fill("My fingers are fast")
        await box(page).press("Enter")
        await expect(
            page.get_by_role("button", name=re.compile("Send again .[12].$"))
        ).to_be_disabled()
        # A screen reader would say all of it again each second.
        await expect(page.get_by_role("alert")).not_to_contain_text("Send again")
        await page.unroute_all()
        await page.get_by_role("button", name="Send again", exact=True).click()
        await expect(answers(page)).to_have_count(1)


async def test_the_page_waits_for_a_server_that_was_killed(
    browser: Browser, home: Path, settle: Settle
) -> None:
    """It comes back by itself, with what was said so far, marked as interrupted."""
    settle(home / "data")
    server = Server(home, free_port())
    visitor = Visitor(browser, server.url)
    try:
        await server.start()
        async with visitor.open() as page:
            await visitor.sign_up(page)
            before = await begin_story(page, least=200)
            await server.end(signal.SIGKILL)
            await expect(page.get_by_text("The connection broke.")).to_be_visible()
            await server.start()
            again = page.get_by_role("button", name="Try again")
            await expect(again).to_be_visible()
            assert (await said(answers(page).last)).startswith(before[:60])
            await again.click()
            await expect(page.get_by_text("Version 2 of 2")).to_be_visible()
    finally:
        await server.end()


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (820, "dark"), (1440, "light")]
)
async def test_pages_fit_and_every_control_has_a_name(
    visitor: Visitor, width: int, scheme: Literal["light", "dark"]
) -> None:
    """At the width of a phone, a tablet and a desk: nothing sticks out, nothing is nameless."""

    async def look(page: Page) -> None:
        assert await page.evaluate(NAMELESS) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    async with visitor.open(width=width, scheme=scheme) as page:
        await page.goto("/sign-in")
        await expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
        await look(page)
        await visitor.sign_up(page)
        await look(page)
        await begin_story(page, least=20)
        await stop_button(page).click()
        await expect(page.get_by_text("You stopped this answer.")).to_be_visible()
        await look(page)
        if width < 880:
            await page.get_by_role("button", name="Open sidebar").click()
        await page.get_by_role("button", name="Account").click()
        await look(page)
        await page.get_by_role("menuitem", name="Settings").click()
        await expect(page.get_by_role("heading", name="Settings")).to_be_focused()
        await look(page)


async def test_the_keyboard_reaches_the_message_box_first(visitor: Visitor) -> None:
    """The first stop of the Tab key skips to the conversation; menus give the focus back."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, "My hands are full")
        await page.get_by_role("button", name="Copy answer").focus()
        skip = page.get_by_role("link", name="Skip to the conversation")
        assert await page.evaluate("document.querySelector('a, button, input').textContent") == (
            await skip.text_content()
        )
        await skip.press("Enter")
        await expect(box(page)).to_be_focused()
        account = page.get_by_role("button", name="Account")
        await account.press("ArrowDown")
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("menuitem", name="API documentation")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(account).to_be_focused()


async def test_a_wrong_password_is_said_clearly(visitor: Visitor) -> None:
    """The form says what is wrong and keeps what was typed."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 4",)

    async def refuse(route: Route) -> None:
        problem = {"code": "over_request_rate_limit", "message": "Too many."}
        headers = {"x-supabase-api-version": "2024-01-01", "retry-after": "9"}
        await route.fulfill(status=429, json=problem, headers=headers)

    async with visitor.open() as page:
        await page.goto("/sign-in")
        await page.get_by_label("E-mail").fill("nobody@example.com")
        await page.get_by_label("Password", exact=True).fill("not my password")
        await page.get_by_role("button", name="Show password").click()
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("do not match")
        await expect(page.get_by_label("Password", exact=True)).to_have_value("not my password")
        await page.route("**/auth/v1/token*", refuse)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.get_by_text("Try again in 8 s.")).to_be_visible()
        # What counts down is seen; said aloud is how long it was in the beginning.
        await expect(page.get_by_role("alert")).to_match_aria_snapshot(
            "- alert: Too many attempts. Try again in 9 s."
        )


async def test_the_api_page_works_under_the_policy(visitor: Visitor) -> None:
    """Swagger UI comes from this server and shows our description."""
    async with visitor.open() as page:
        await page.goto("/docs")
        await expect(page.get_by_text("/api/v1/chat/message")).to_be_visible()
