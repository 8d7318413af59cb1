"""Pictures that a person attaches, in a real Chromium: seen before and after they are sent."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.test_web_files_and_data import NOTES, attach, sent, to_send
from tests.e2e.visiting import MARKS, NAMELESS, answers, ask, box, stop_button

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import FilePayload, Locator, Page, Route

    from tests.e2e.visiting import Visitor

pytestmark = MARKS

# Counts the addresses that were made of what is in memory, and not given back.
COUNT_URLS = """
window.urls = new Set();
const [make, end] = [URL.createObjectURL.bind(URL), URL.revokeObjectURL.bind(URL)];
URL.createObjectURL = (blob) => { const made = make(blob); urls.add(made); return made; };
URL.revokeObjectURL = (url) => { urls.delete(url); end(url); };
"""
DROP = """
([name, encoded]) => {
  const bytes = Uint8Array.from(atob(encoded), (one) => one.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type: "image/png" }));
  const place = document.querySelector(".chat-scroll");
  const init = { dataTransfer, bubbles: true, cancelable: true };
  if (place.dispatchEvent(new DragEvent("dragover", init))) throw new Error("not taken");
  if (place.dispatchEvent(new DragEvent("drop", init))) throw new Error("the page is left");
}
"""


def png(width: int, height: int) -> bytes:
    """Return a picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes((23, 105, 79)) * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PHOTO: FilePayload = {"name": "roof.png", "mimeType": "image/png", "buffer": png(900, 500)}
TORN: FilePayload = {"name": "torn.png", "mimeType": "image/png", "buffer": b"no picture"}


async def shown(picture: Locator) -> tuple[int, int]:
    """The size of a picture as it was drawn, once it is there."""
    await expect(picture).to_be_visible()
    await expect(picture).to_have_js_property("complete", value=True)
    size = await picture.evaluate("(one) => [one.naturalWidth, one.naturalHeight]")
    return size[0], size[1]


async def open_urls(page: Page) -> int:
    """How many addresses of things in memory are open."""
    counted: int = await page.evaluate("urls.size")
    return counted


async def test_picture_is_seen_before_and_after_it_is_sent(
    visitor: Visitor, tmp_path: Path
) -> None:
    """Small beside the words, whole when asked for, and saved as it was; also after a reload."""
    async with visitor.open() as page:
        await page.add_init_script(COUNT_URLS)
        await visitor.sign_up(page)
        await attach(page, PHOTO, NOTES)
        await expect(to_send(page)).to_have_count(2)
        assert await shown(to_send(page).get_by_alt_text("Preview of roof.png")) == (900, 500)
        assert await page.evaluate(NAMELESS) == []
        await ask(page, "What is missing here?")
        await expect(to_send(page)).to_have_count(0)
        await page.reload()
        await expect(sent(page)).to_have_count(2)
        assert await shown(page.get_by_alt_text("roof.png")) == (900, 500)
        assert await page.evaluate(NAMELESS) == []
        small = page.get_by_role("button", name="Show roof.png")
        await small.click()
        window = page.get_by_role("dialog", name="roof.png")
        assert await shown(window.get_by_role("img")) == (900, 500)
        async with page.expect_download() as downloading:
            await window.get_by_role("button", name="Save").click()
        await (await downloading.value).save_as(tmp_path / "roof.png")
        assert (tmp_path / "roof.png").read_bytes() == PHOTO["buffer"]
        await page.keyboard.press("Escape")
        await expect(window).to_be_hidden()
        await expect(small).to_be_focused()


async def test_addresses_of_pictures_are_given_back(visitor: Visitor) -> None:
    """Left out, sent, or in a chat that was left: nothing of them stays in memory."""
    async with visitor.open() as page:
        await page.add_init_script(COUNT_URLS)
        await visitor.sign_up(page)
        await attach(page, PHOTO, {**PHOTO, "name": "cellar.png"})
        await shown(to_send(page).get_by_alt_text("Preview of cellar.png"))
        assert await open_urls(page) == 2
        await page.get_by_role("button", name="Leave out cellar.png").click()
        await expect(to_send(page)).to_have_count(1)
        assert await open_urls(page) == 1
        await ask(page, "What is missing here?")
        await shown(page.get_by_alt_text("roof.png"))
        assert await open_urls(page) == 1
        await page.get_by_role("button", name="Show roof.png").click()
        await shown(page.get_by_role("dialog").get_by_role("img"))
        assert await open_urls(page) == 2
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await page.keyboard.press("Control+Shift+O")
        await expect(page.get_by_alt_text("roof.png")).to_be_hidden()
        assert await open_urls(page) == 0


async def test_what_only_calls_itself_a_picture_is_a_file(visitor: Visitor, tmp_path: Path) -> None:
    """It is shown by its name, before and afterwards, and can be saved."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await attach(page, TORN)
        await expect(to_send(page)).to_have_text("torn.png")
        await expect(to_send(page).get_by_role("img")).to_have_count(0)
        await ask(page, "And this?")
        await expect(sent(page)).to_have_text("torn.png")
        async with page.expect_download() as downloading:
            await sent(page).click()
        await (await downloading.value).save_as(tmp_path / "torn.png")
        assert (tmp_path / "torn.png").read_bytes() == TORN["buffer"]


@pytest.mark.parametrize("width", [360, 1280])
async def test_picture_needs_no_words(visitor: Visitor, width: int) -> None:
    """Dropped anywhere on the chat, a picture can be sent alone, and fits the screen."""
    async with visitor.open(width=width) as page:
        await visitor.sign_up(page)
        await page.evaluate(DROP, ["wide.png", b64encode(png(3000, 40)).decode()])
        await shown(to_send(page).get_by_role("img"))
        await expect(to_send(page).get_by_text("is being uploaded")).to_have_count(0)
        await expect(box(page)).to_have_value("")
        await box(page).press("Enter")
        await expect(answers(page)).to_have_count(1)
        await expect(stop_button(page)).to_be_hidden()
        await expect(page.locator(".bubble")).to_have_count(0)
        await page.get_by_role("button", name="Show wide.png").click()
        await shown(page.get_by_role("dialog").get_by_role("img"))
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        place = await page.get_by_role("dialog").bounding_box()
        assert place is not None
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= width


async def test_answer_shows_files_and_asks_the_server_for_nothing_else(visitor: Visitor) -> None:
    """A picture of the reader's is seen; any other address of the server is a link that waits."""
    others = ["/api/sessions", "/auth/v1/logout?scope=global", "/api/files/../usage", "x"]
    asked: list[str] = []

    async with visitor.open() as page:
        await visitor.sign_up(page)
        await attach(page, PHOTO)
        await ask(page, "What is missing here?")
        await shown(page.get_by_alt_text("roof.png"))

        async def show(route: Route) -> None:
            told = await (await route.fetch()).json()
            question, answer = told["messages"]
            [file] = [one["url"] for one in question["parts"] if one["type"] == "file"]
            addresses = [file, f"{file}?and=more", f"{file}0", *others]
            text = " ".join(f"![said {at}]({one})" for at, one in enumerate(addresses))
            answer["parts"] = [{"type": "text", "text": text}]
            await route.fulfill(json=told)

        await page.route("**/api/v1/chat/*?limit=*", show)
        page.on("request", lambda one: asked.append(f"{one.resource_type} {one.url}"))
        visitor.expected = ("Failed to load resource: the server responded with a status of 404",)
        await page.reload()
        assert await shown(answers(page).get_by_alt_text("said 0")) == (900, 500)
        await expect(answers(page).locator(".prose").get_by_role("link")).to_have_text(
            [f"said {at}" for at in range(1, 7)]
        )
        assert await answers(page).get_by_role("img").count() == 1
        assert [one for one in asked if one.startswith(f"image {visitor.url}")] == []
