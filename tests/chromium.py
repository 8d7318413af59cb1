"""A real Chromium, without a window."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, CDPSession, Page

# The one that is made for this takes a third less of the processor than the one with windows.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium: apt-get install chromium-headless-shell"
)

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def launched_chromium() -> AsyncIterator[Browser]:
    """Run one until the block ends; each person opens a context of their own in it."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield running
        await running.close()


async def webauthn(page: Page) -> CDPSession:
    """Let authenticators be plugged into the machine of *page*."""
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("WebAuthn.enable")
    return devtools


async def plug_in(devtools: CDPSession, *, transport: str = "internal", **abilities: bool) -> str:
    """Plug in an authenticator, by default one with a finger on it; return its id."""
    options = {
        "protocol": "ctap2",
        "transport": transport,
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
        **abilities,
    }
    made = await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return str(made["authenticatorId"])
