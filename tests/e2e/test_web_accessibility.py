"""Every page and window of the web chat, in both themes, as axe-core judges them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pyotp
import pytest
from playwright.async_api import expect

from tests.accessibility import NEEDS_AXE, faults_of
from tests.e2e.test_web_account import open_account
from tests.e2e.test_web_admin import administrator
from tests.e2e.test_web_files_and_data import NOTES, attach, to_send
from tests.e2e.test_web_keys import make_key, open_keys
from tests.e2e.test_web_pictures import PHOTO, shown
from tests.e2e.visiting import MARKS, PASSWORD, Visitor, answers, ask, box, choose

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

    from tests.e2e.visiting import Server

pytestmark = [
    *MARKS,
    NEEDS_AXE,
    pytest.mark.parametrize("scheme", ["light", "dark"]),
]

Scheme = Literal["light", "dark"]

REFUSED = ("Failed to load resource: the server responded with a status of 4",)
ANSWER = """# A title

A [link](https://example.com), **bold**, *slanted*, ~~struck~~ and `short`[^1].

- [x] done
- [ ] to do

> Somebody said so.

| left | right |
| --- | --: |
| 1 | 2 |

```python
# a remark
def f(x: int = 3) -> str:
    return "text"  # and more
```

![a picture](https://example.com/picture.png)

[^1]: The note.
"""


TOOL = {"type": "dynamic-tool", "toolName": "pay", "input": {"to": "Bo"}}


class Looker:
    """Looks at a page each time it is asked to; *faults* is what was wrong, by what was seen."""

    def __init__(self, page: Page) -> None:
        """Begin with nothing wrong."""
        self.page = page
        self.faults: dict[str, list[str]] = {}

    async def look(self, at: str) -> None:
        """Look at the page, which shows what *at* says."""
        if found := await faults_of(self.page):
            self.faults[at] = found


async def write_richly(route: Route) -> None:
    """Give each answer everything that Markdown has, and something thought and looked up."""
    told = await (await route.fetch()).json()
    for one in told["messages"]:
        if one["role"] == "assistant":
            one["parts"] = [
                {"type": "reasoning", "text": "Well, well."},
                {"type": "text", "text": ANSWER},
                {**TOOL, "toolCallId": "1", "state": "output-available", "output": "paid"},
                {**TOOL, "toolCallId": "2", "state": "approval-requested", "approval": {"id": "2"}},
                {
                    "type": "source-url",
                    "sourceId": "1",
                    "url": "https://example.com/",
                    "title": "A",
                },
            ]
    await route.fulfill(json=told)


async def offer_models(route: Route) -> None:
    """Offer so many that one looks for them."""
    models = [{"id": f"m{number}", "name": f"Model {number}"} for number in range(9)]
    await route.fulfill(json={"default": "m0", "models": models})


async def test_what_stands_before_the_chats(visitor: Visitor, scheme: Scheme) -> None:
    """Each way in, and what is said where it does not open."""
    visitor.expected = REFUSED
    async with visitor.open(scheme=scheme) as page:
        looker = Looker(page)
        for mode in ("", "?mode=sign-up", "?mode=mail", "?mode=forgot"):
            await page.goto(f"/sign-in{mode}")
            await expect(page.get_by_label("E-mail")).to_be_visible()
            await looker.look(f"sign-in{mode}")
        await page.get_by_label("E-mail").fill("somebody@example.com")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Code")).to_be_visible()
        await page.get_by_label("Code").fill("000000")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await looker.look("a wrong code")
        await page.goto("/sign-in")
        await page.get_by_label("E-mail").fill("somebody@example.com")
        await page.get_by_label("Password", exact=True).fill("no password of anybody's")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await looker.look("a wrong password")
        assert not looker.faults, looker.faults


async def look_at_a_new_chat(looker: Looker, visitor: Visitor) -> None:
    """Arrive, look for a model, and choose files to send."""
    page = looker.page
    await page.route("**/api/models", offer_models)
    await visitor.sign_up(page)
    await looker.look("a new chat")
    await page.get_by_role("button", name="Model:").click()
    await expect(page.get_by_role("option")).to_have_count(9)
    await looker.look("models to choose from")
    await page.keyboard.press("Escape")
    await attach(page, PHOTO, NOTES)
    await expect(to_send(page)).to_have_count(2)
    await shown(to_send(page).get_by_alt_text("Preview of roof.png"))
    await looker.look("files to send")


async def look_above_a_chat(looker: Looker) -> str:
    """Open what opens above a chat, and return a link to it."""
    page = looker.page
    await page.get_by_role("button", name="Account menu").click()
    await looker.look("the menu of the account")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Actions for").click()
    await looker.look("the menu of a chat")
    await page.get_by_role("menuitem", name="Rename").click()
    await expect(page.get_by_label("Chat title")).to_be_focused()
    await looker.look("a title that is edited")
    await page.keyboard.press("Escape")
    await choose(page, "Actions for", "Share")
    await page.get_by_role("button", name="Make a link").click()
    link = await page.get_by_label("Link to this chat").input_value()
    await expect(page.get_by_role("list", name="Links to this chat")).to_be_visible()
    await looker.look("sharing")
    await page.keyboard.press("Escape")
    return link


async def look_where_nothing_is(looker: Looker) -> None:
    """Go to addresses that lead nowhere."""
    page = looker.page
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.get_by_role("button", name="Open sidebar").click()
    await expect(page.locator("#new-chat")).to_be_focused()
    await looker.look("the sidebar on a phone")
    await page.unroute_all()
    await page.goto("/c/nobody-has-this")
    await expect(page.get_by_role("heading", name="This chat is not here")).to_be_visible()
    await looker.look("a chat that is not here")
    await page.goto("/nothing")
    await expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
    await looker.look("no page")


async def test_chats(visitor: Visitor, scheme: Scheme) -> None:
    """A new one, one that was answered, and every window and menu above them."""
    visitor.expected = (*REFUSED, "Failed to load resource: net::ERR")
    async with visitor.open(scheme=scheme) as page:
        looker = Looker(page)
        await look_at_a_new_chat(looker, visitor)
        await ask(page, "My castle has no roof")
        await page.get_by_role("button", name="Answer again").click()
        await expect(page.get_by_text("Version 2 of 2")).to_be_visible()
        await page.route("**/api/v1/chat/*?limit=*", write_richly)
        await page.reload()
        await expect(answers(page).locator(".hljs-keyword").first).to_be_visible()
        await page.get_by_role("button", name="Show roof.png").scroll_into_view_if_needed()
        await shown(page.get_by_alt_text("roof.png"))
        await answers(page).get_by_text("Reasoning").click()
        await looker.look("an answer")
        await page.get_by_role("button", name="Show roof.png").click()
        await shown(page.get_by_role("dialog").get_by_role("img"))
        await looker.look("a picture")
        await page.keyboard.press("Escape")
        await page.get_by_role("article", name="You").hover()
        await page.get_by_role("button", name="Edit message").click()
        await looker.look("a message that is edited")
        await page.keyboard.press("Escape")
        link = await look_above_a_chat(looker)
        await page.get_by_label("Search chats").fill("castle")
        await expect(page.get_by_role("navigation", name="Messages found")).to_contain_text("roof")
        await looker.look("what was found")
        await page.get_by_role("button", name="Clear search").click()
        await page.context.set_offline(offline=True)
        await box(page).fill("Is anybody there?")
        await box(page).press("Enter")
        await expect(page.get_by_text("Your message was not sent.")).to_be_visible()
        await looker.look("what was not sent")
        await page.context.set_offline(offline=False)
        await choose(page, "Actions for", "Delete")
        await expect(page.get_by_role("button", name="Undo")).to_be_visible()
        await looker.look("a chat that was deleted")
        await page.get_by_role("button", name="Undo").click()
        await look_where_nothing_is(looker)
        await page.goto(link)
        await expect(page.locator(".prose").first).to_be_visible()
        await looker.look("a shared chat")
        assert not looker.faults, looker.faults


async def look_at_the_door(looker: Looker, visitor: Visitor) -> None:
    """Choose a new password, and come back with the old one."""
    page = looker.page
    await page.goto("/new-password")
    await expect(page.get_by_label("New password")).to_be_visible()
    await looker.look("choosing a new password")
    await page.goto("/")
    await choose(page, "Account", "Sign out")
    await visitor._fill_form(page)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    await looker.look("the second factor")


async def test_settings(visitor: Visitor, scheme: Scheme) -> None:
    """Each tab, with what its forms say and ask."""
    visitor.expected = REFUSED
    async with visitor.open(scheme=scheme) as page:
        looker = Looker(page)
        await visitor.sign_up(page)
        await ask(page, "My castle has no roof")
        await choose(page, "Account", "Settings")
        await page.get_by_label("Display name").fill("Ana")
        await looker.look("settings that are not saved")
        await open_account(page)
        taken = f"taken-{visitor.email}"
        body = {"email": taken, "password": PASSWORD}
        assert (await page.request.post("/auth/v1/signup", data=body)).ok
        await page.get_by_label("New e-mail").fill(taken)
        await page.get_by_role("button", name="Change e-mail").click()
        await page.get_by_label("Present password").fill("no password of anybody's")
        await page.get_by_label("New password").fill(PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_role("alert")).to_have_count(2)
        await page.get_by_role("button", name="Turn on").click()
        await expect(page.get_by_role("img", name="QR code")).to_be_visible()
        secret = await page.locator(".secret").inner_text()
        await page.get_by_role("button", name="Erase everything").click()
        await looker.look("the account")
        await page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("list", name="Recovery codes")).to_be_visible()
        await looker.look("recovery codes")
        await page.get_by_role("button", name="I have kept them").click()
        await page.get_by_role("button", name="Remove").click()
        await looker.look("a factor that is to be removed")
        await page.get_by_role("link", name="Devices").click()
        await expect(page.get_by_role("list", name="Devices")).to_be_visible()
        await looker.look("devices")
        await page.get_by_role("link", name="Usage").click()
        await expect(page.get_by_role("table").first).to_be_visible()
        await looker.look("usage")
        await open_keys(page)
        await page.get_by_role("button", name="New key").click()
        await looker.look("a key that is made")
        await page.keyboard.press("Escape")
        await make_key(page, "My laptop")
        await page.get_by_role("button", name="Revoke").click()
        await looker.look("a key that was made")
        await look_at_the_door(looker, visitor)
        assert not looker.faults, looker.faults


async def test_console(server: Server, visitor: Visitor, scheme: Scheme) -> None:
    """Each page of it, and what it asks before something is done."""
    async with visitor.open(scheme=scheme) as page:
        looker = Looker(page)
        await administrator(server, visitor, page)
        await looker.look("the overview")
        places = page.get_by_role("navigation", name="Administration")
        for name in ("Audit log", "Old tokens", "Keys and limits", "People"):
            await places.get_by_role("link", name=name).click()
            await expect(page.locator(".panel").first).to_be_visible()
            await expect(page.locator(".skeleton")).to_have_count(0)
            for more in await page.locator("summary").all():
                await more.click()
            await looker.look(name)
            if name == "Keys and limits":
                await page.get_by_role("button", name="Sign everybody out").click()
                await looker.look("signing everybody out")
                await page.keyboard.press("Escape")
        await page.get_by_role("link", name=visitor.email, exact=True).click()
        await expect(page.get_by_role("list", name="Sessions")).to_be_visible()
        await looker.look("a person")
        await page.get_by_role("button", name="Suspend").click()
        await looker.look("suspending")
        assert not looker.faults, looker.faults
