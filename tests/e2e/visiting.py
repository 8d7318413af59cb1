"""What the tests of the web chat share: a server, a browser, and somebody who uses both.

Every test is a person (or two) with an account of their own and a browser of their own. The
pages are watched all the time: an error in the console or a blocked script fails the test.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import pytest
from playwright.async_api import expect

import chatkeep
from tests.chromium import NEEDS_CHROMIUM
from tests.patience import FIRST_START_S, PATIENCE_S
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Locator,
        Page,
        StorageState,
    )

PAGE = Path(chatkeep.__file__).parent / "web" / "static" / "index.html"
PASSWORD = "a long and quiet password"
STORY = "Tell me a story, please"
# Everything that a person can act on, and no name that a screen reader could say.
NAMELESS = """
() => [...document.querySelectorAll('button, a, input, select, textarea, [role=menuitem]')]
  .filter((one) => one.checkVisibility())
  .filter((one) => {
    const labels = [...(one.labels ?? [])].map((label) => label.textContent).join('');
    const name = one.getAttribute('aria-label') || labels || one.textContent;
    return !name.trim();
  })
  .map((one) => one.outerHTML)
"""
REPORT_BLOCKED = """
document.addEventListener('securitypolicyviolation', (event) =>
  console.error(`blocked by the policy: ${event.violatedDirective} ${event.blockedURI}`));
"""

MARKS = [
    NEEDS_CHROMIUM,
    pytest.mark.skipif(not PAGE.exists(), reason="the web chat is not built: make install"),
]

_people = count(1)


@dataclass(slots=True)
class Server:
    """`chatkeep serve` as a person starts it."""

    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start, and return when it is ready."""
        command = Path(sys.executable).with_name("chatkeep")
        arguments = ["serve", "--port", str(self.port), "--data", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                command,
                *arguments,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={
                    "PATH": os.environ["PATH"],
                    "RATE_LIMITS": "off",
                    "DRAIN_SECONDS": "0",
                    **self.environment,
                },
            )
        async with aiohttp.ClientSession() as http, asyncio.timeout(FIRST_START_S):
            while not await self._is_ready(http):
                assert self.process.returncode is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.05)

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"{self.url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def end(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Send *with_signal* and wait until the process is gone."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(with_signal)
        await self.process.wait()


@dataclass  # without slots: Playwright keeps its wrapper of a listening method on the object
class Visitor:
    """Somebody at a browser; *complaints* is what its pages said went wrong."""

    browser: Browser
    url: str
    email: str = ""
    complaints: list[str] = field(default_factory=list)
    #: Beginnings of complaints that the test at hand provokes.
    expected: tuple[str, ...] = ()

    @asynccontextmanager
    async def open(
        self,
        *,
        stored: StorageState | None = None,
        width: int = 1280,
        scheme: Literal["light", "dark"] = "light",
    ) -> AsyncIterator[Page]:
        """Open a browser with what it kept before, and one page in it."""
        context = await self.browser.new_context(
            base_url=self.url,
            storage_state=stored,
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(PATIENCE_S * 1000)
        try:
            await context.add_init_script(REPORT_BLOCKED)
            yield await self.page(context)
        finally:
            await context.close()

    async def page(self, context: BrowserContext) -> Page:
        """Open one more page, watched like the others."""
        page = await context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    async def sign_up(self, page: Page) -> None:
        """Make an account through the form."""
        self.email = f"person-{next(_people)}-{os.getpid()}@example.com"
        await page.goto("/sign-in?mode=sign-up")
        await self._fill_form(page)
        await page.get_by_role("button", name="Create account").click()
        await expect(box(page)).to_be_visible()

    async def sign_in(self, page: Page) -> None:
        """Use the form that is shown."""
        await self._fill_form(page)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(box(page)).to_be_visible()

    async def _fill_form(self, page: Page) -> None:
        await page.get_by_label("E-mail").fill(self.email)
        await page.get_by_label("Password", exact=True).fill(PASSWORD)

    @property
    def unexpected(self) -> list[str]:
        """The complaints that the test did not provoke."""
        return [text for text in self.complaints if not text.startswith(self.expected or ("\0",))]


def box(page: Page) -> Locator:
    """Where one types."""
    return page.get_by_role("textbox", name="Message")


def stop_button(page: Page) -> Locator:
    """What is shown for as long as an answer is being written."""
    return page.get_by_role("button", name="Stop answering")


def answers(page: Page) -> Locator:
    """The answers of the conversation."""
    return page.get_by_role("article", name="Answer")


def chats(page: Page) -> Locator:
    """The conversations in the sidebar."""
    return page.get_by_role("navigation", name="Chats").get_by_role("link")


async def ask(page: Page, text: str) -> None:
    """Send *text* and wait for the whole answer."""
    before = await answers(page).count()
    await box(page).fill(text)
    await box(page).press("Enter")
    await expect(answers(page)).to_have_count(before + 1)
    await expect(stop_button(page)).to_be_hidden()


async def begin_story(page: Page, *, least: int = 80) -> str:
    """Ask for something long and return what is there once it has *least* characters."""
    await box(page).fill(STORY)
    await box(page).press("Enter")
    await expect(answers(page).last).to_contain_text(re.compile(rf"[^§]{{{least},}}"))
    return await said(answers(page).last)


async def said(answer: Locator) -> str:
    """The text of an answer, without what is around it."""
    return "\n".join(await answer.locator(".prose").all_inner_texts())


async def copied(page: Page, text: str) -> None:
    """Wait until *text* is in the clipboard, where a page writes it after the click."""

    async def is_there() -> bool:
        found: str = await page.evaluate("navigator.clipboard.readText()")
        return found == text

    await until(is_there)


async def choose(page: Page, menu: str, action: str) -> None:
    """Open the menu named *menu* and do *action*."""
    await page.get_by_role("button", name=menu).click()
    await page.get_by_role("menuitem", name=action).click()


async def press_twice(page: Page, button: Locator, *, no: str, yes: str) -> None:
    """Press *button*, which asks first: nothing is done after *no*, and then it is after *yes*."""
    await button.click()
    await expect(page.get_by_role("button", name=no)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(button).to_be_focused()
    await button.click()
    await page.get_by_role("button", name=yes).click()


async def newest_mail(page: Page, address: str) -> dict[str, Any]:
    """Return the newest mail to *address*, as the outbox shows it."""
    mails = (await (await page.request.get("/api/outbox")).json())["mails"]
    found: list[dict[str, Any]] = [one for one in mails if one["to"] == address]
    assert found, f"no mail to {address}"
    return found[0]


async def open_mailed_link(page: Page, address: str) -> None:
    """Open the newest link to *address* in this browser and press the button of its page."""
    link = (await newest_mail(page, address))["link"]
    await page.goto(link)
    await page.get_by_role("button").click()
