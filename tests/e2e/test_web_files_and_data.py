"""Files sent with a message, and what a person takes along and brings, in a real Chromium."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from tests.e2e.visiting import MARKS, NAMELESS, answers, ask, box, chats, choose, said

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import FilePayload, Locator, Page

    from tests.e2e.visiting import Visitor

pytestmark = MARKS

NOTES: FilePayload = {
    "name": "notes.txt",
    "mimeType": "text/plain",
    "buffer": b"the roof is missing",
}
PROGRAM: FilePayload = {
    "name": "setup.exe",
    "mimeType": "application/x-msdownload",
    "buffer": b"MZ",
}


def to_send(page: Page) -> Locator:
    """The files that go with the next message."""
    return page.get_by_role("list", name="Files to send").get_by_role("listitem")


def sent(page: Page) -> Locator:
    """The files of messages."""
    return page.get_by_role("list", name="Files", exact=True).get_by_role("button")


async def attach(page: Page, *files: FilePayload) -> None:
    """Choose *files* as a person does."""
    async with page.expect_file_chooser() as choosing:
        await page.get_by_role("button", name="Attach files").click()
    await (await choosing.value).set_files(list(files))


async def open_account(page: Page) -> None:
    """Go to where one's data are."""
    await choose(page, "Account", "Settings")
    await page.get_by_role("link", name="Account").click()
    await expect(page.get_by_role("button", name="Export everything")).to_be_visible()


def of_chatgpt(number: int) -> dict[str, Any]:
    """Return one conversation as ChatGPT exports it."""

    def message(role: str, text: str) -> dict[str, Any]:
        content = {"content_type": "text", "parts": [text]}
        return {"author": {"role": role}, "content": content, "create_time": 1.7e9 + number}

    return {
        "id": f"chatgpt-{number}",
        "title": f"Brought along {number}",
        "create_time": 1.7e9 + number,
        "update_time": 1.7e9 + number,
        "current_node": "b",
        "mapping": {
            "a": {"id": "a", "parent": None, "message": message("user", "x" * 190_000)},
            "b": {"id": "b", "parent": "a", "message": message("assistant", "An answer.")},
        },
    }


async def test_file_goes_with_a_message_and_is_there_after_a_reload(
    visitor: Visitor, tmp_path: Path
) -> None:
    """It is uploaded, shown, sent, kept, saved again, and stays when the words are edited."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await attach(page, NOTES)
        await expect(to_send(page)).to_have_count(1)
        await ask(page, "What is in my notes?")
        await expect(to_send(page)).to_have_count(0)
        await page.reload()
        await expect(sent(page)).to_have_text("notes.txt")
        async with page.expect_download() as downloading:
            await sent(page).click()
        await (await downloading.value).save_as(tmp_path / "notes.txt")
        assert (tmp_path / "notes.txt").read_bytes() == NOTES["buffer"]
        await page.get_by_role("article", name="You").hover()
        await page.get_by_role("button", name="Edit message").click()
        await page.get_by_role("textbox", name="Edit message").fill("And the cellar?")
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(page.get_by_text("2 / 2")).to_be_visible()
        await expect(sent(page)).to_have_text("notes.txt")


async def test_file_that_is_not_taken_says_why(visitor: Visitor) -> None:
    """A kind that the server refuses is named, and what is typed stays."""
    visitor.expected = ("Failed to load resource: the server responded with a status of 4",)
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await box(page).fill("Please install this")
        await attach(page, PROGRAM)
        await expect(page.get_by_text("setup.exe was not taken")).to_be_visible()
        await expect(to_send(page)).to_have_count(0)
        await expect(box(page)).to_have_value("Please install this")


async def test_file_can_be_left_out_again(visitor: Visitor) -> None:
    """What was chosen by mistake is not sent."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await attach(page, NOTES, {**NOTES, "name": "more.txt"})
        await page.get_by_role("button", name="Leave out notes.txt").click()
        await expect(to_send(page)).to_have_count(1)
        assert await page.evaluate(NAMELESS) == []
        await ask(page, "Read this")
        await expect(sent(page)).to_have_text("more.txt")
        await expect(answers(page)).to_have_count(1)


async def test_everything_is_exported_as_one_file(visitor: Visitor, tmp_path: Path) -> None:
    """Chats and settings, in a document that other programs read."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await ask(page, 'My castle has no "messages":[ roof')
        await open_account(page)
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Export everything").click()
        await (await downloading.value).save_as(tmp_path / "all.json")
        told = json.loads((tmp_path / "all.json").read_bytes())
        assert told["format"] == "chatkeep-account-1"
        (conversation,) = told["conversations"]
        assert "castle" in conversation["messages"][0]["content"]


async def test_chats_of_chatgpt_are_brought_along(visitor: Visitor, tmp_path: Path) -> None:
    """More than one request takes: in several, and once, however often the file is chosen."""
    export = tmp_path / "conversations.json"
    export.write_text(json.dumps([of_chatgpt(number) for number in range(5)]))
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await open_account(page)
        await page.get_by_label("Export to import").set_input_files(export)
        await expect(page.get_by_text("5 chats were imported.")).to_be_visible()
        await expect(chats(page)).to_have_count(5)
        await page.get_by_label("Export to import").set_input_files(export)
        await expect(page.get_by_text("0 chats were imported. 5 were here before.")).to_be_visible()
        await chats(page).filter(has_text="Brought along 3").click()
        await expect(answers(page)).to_have_count(1)
        assert await said(answers(page)) == "An answer."


async def test_file_that_is_no_export_is_refused_in_words(visitor: Visitor, tmp_path: Path) -> None:
    """One learns what to choose instead."""
    archive = tmp_path / "export.zip"
    archive.write_bytes(b"PK\x03\x04")
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await open_account(page)
        await page.get_by_label("Export to import").set_input_files(archive)
        await expect(page.get_by_role("alert")).to_contain_text("conversations.json")


async def test_long_name_of_a_file_fits_a_phone(visitor: Visitor) -> None:
    """Before it is sent and afterwards, all of it that is shown is on the screen."""
    async with visitor.open(width=360) as page:
        await visitor.sign_up(page)
        await attach(page, NOTES, {**NOTES, "name": "a very long name of my notes " * 5 + ".txt"})
        await expect(to_send(page)).to_have_count(2)
        await ask(page, "What is in these?")
        for one in await sent(page).all():
            place = await one.bounding_box()
            assert place is not None
            assert place["x"] >= 0
            assert place["x"] + place["width"] <= 360
