"""What every test of real processes needs: a folder to start them in.

What a first start makes (a cluster, all migrations) costs as much as all else that a server
does in a test. Only tests about a first start begin with nothing, in `home`; others begin in
`settled`, or have `settle` make their data folder: with a copy of one that has been made before.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from playwright.async_api import expect

from chatkeep.embedded_postgresql.postmaster import stop_left_behind
from tests.chromium import launched_chromium
from tests.command_line import CHATKEEP, environment
from tests.e2e.visiting import Server, Visitor
from tests.free_ports import free_port
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser


expect.set_options(timeout=PATIENCE_S * 1000)  # it ends as soon as it holds


class Settle(Protocol):
    """Makes a data folder that a server of this version has used before, and nobody else."""

    def __call__(self, data: Path) -> None:
        """Make *data*, which is not there yet."""


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


@pytest.fixture(scope="session")
def settle() -> Iterator[Settle]:
    """Make data folders that have been used before: copies of one that a command has made."""
    with folder_for_a_server() as folder:
        subprocess.run(
            [CHATKEEP, "migrate"],
            cwd=folder,
            env=environment({}),
            check=True,
            capture_output=True,
            timeout=100,
        )

        def copy(data: Path) -> None:
            # Not `shutil.copytree`: PostgreSQL's files belong to another account under root.
            subprocess.run(["cp", "-a", folder / ".chatkeep", data], check=True)

        yield copy


@pytest.fixture
def settled(home: Path, settle: Settle) -> Path:
    """A folder to start a server in, and not for the first time."""
    settle(home / ".chatkeep")
    return home


@asynccontextmanager
async def lent_server(settle: Settle, **settings: str) -> AsyncIterator[Server]:
    """Run a server with *settings* of its own until the block ends."""
    with folder_for_a_server() as folder:
        settle(folder / "data")
        running = Server(folder, free_port(), settings)
        try:
            await running.start()
            yield running
        finally:
            await running.end()


@pytest.fixture(scope="session")
async def server(settle: Settle) -> AsyncIterator[Server]:
    """A server that all these tests share: each is about people of its own."""
    async with lent_server(settle) as running:
        yield running


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium; each person gets a profile of their own in it."""
    async with launched_chromium() as running:
        yield running


@pytest.fixture
async def visitor(browser: Browser, server: Server) -> AsyncIterator[Visitor]:
    """Somebody whose pages had nothing to complain about in the end."""
    somebody = Visitor(browser, server.url)
    yield somebody
    assert somebody.unexpected == []


@pytest.fixture(scope="session")
async def mailing(settle: Settle) -> AsyncIterator[Server]:
    """A server where addresses have to be confirmed; its outbox has the mail."""
    async with lent_server(settle, MAILER_AUTOCONFIRM="off") as running:
        yield running


@pytest.fixture
async def guest(browser: Browser, mailing: Server) -> AsyncIterator[Visitor]:
    """Somebody at that server whose pages had nothing to complain about in the end."""
    somebody = Visitor(browser, mailing.url)
    yield somebody
    assert somebody.unexpected == []
