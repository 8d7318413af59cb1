"""What every test of real processes needs: a folder to start them in."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import async_playwright, expect

from chatkeep.embedded_postgresql.postmaster import stop_left_behind
from tests.e2e.visiting import CHROMIUM, FLAGS, Server, Visitor
from tests.free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser


expect.set_options(timeout=20_000)  # it ends as soon as it holds; a loaded machine takes its time


@contextmanager
def folder_for_a_server() -> Iterator[Path]:
    """Lend a folder; no PostgreSQL is left running in a data folder in it.

    Not below pytest's own folder for temporary files: every other pytest of the same account
    closes that one again, and the PostgreSQL of root's server is another account.
    """
    folder = Path(tempfile.mkdtemp(prefix="chatkeep-home-"))
    yield folder
    for data in (folder / ".chatkeep" / "postgresql", folder / "data" / "postgresql"):
        if data.exists():
            stop_left_behind(data)
    shutil.rmtree(folder)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder to start a server in."""
    with folder_for_a_server() as folder:
        yield folder


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    """A server that these tests share."""
    with folder_for_a_server() as folder:
        running = Server(folder, free_port())
        try:
            await running.start()
            yield running
        finally:
            await running.end()


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium; each person gets a profile of their own in it."""
    async with AsyncExitStack() as stack:
        playwright = await stack.enter_async_context(async_playwright())
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        stack.push_async_callback(running.close)
        yield running


@pytest.fixture
async def visitor(browser: Browser, server: Server) -> AsyncIterator[Visitor]:
    """Somebody whose pages had nothing to complain about in the end."""
    somebody = Visitor(browser, server.url)
    yield somebody
    assert somebody.unexpected == []


@pytest.fixture(scope="module")
async def mailing() -> AsyncIterator[Server]:
    """A server where addresses have to be confirmed; its outbox has the mail."""
    with folder_for_a_server() as folder:
        running = Server(folder, free_port(), {"MAILER_AUTOCONFIRM": "off"})
        try:
            await running.start()
            yield running
        finally:
            await running.end()


@pytest.fixture
async def guest(browser: Browser, mailing: Server) -> AsyncIterator[Visitor]:
    """Somebody at that server whose pages had nothing to complain about in the end."""
    somebody = Visitor(browser, mailing.url)
    yield somebody
    assert somebody.unexpected == []
