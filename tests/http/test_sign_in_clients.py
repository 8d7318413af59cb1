"""Signing in with a provider: an unmodified supabase-js in Node, and a real Chromium."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

import chatkeep
from tests import sign_in_providers
from tests.chromium import NEEDS_CHROMIUM, launched_chromium
from tests.free_ports import free_port
from tests.serving import start_node
from tests.sign_in_providers import (
    CLIENT_ID,
    CLIENT_SECRET,
    StandIn,
    authorize_url,
    person,
    stand_in,
)
from tests.stories import told_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from playwright.async_api import Browser

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

STORY = Path(__file__).with_name("provider_story.mjs")
PAGE = Path(chatkeep.__file__).parent / "web" / "static" / "index.html"
needs_page = pytest.mark.skipif(not PAGE.exists(), reason="the web chat is not built: make install")


@pytest.fixture
async def providers() -> AsyncIterator[tuple[StandIn, StandIn]]:
    """Two providers; the second is on another site, as a browser sees it."""
    async with stand_in() as one, stand_in() as other:
        other.url = other.url.replace("127.0.0.1", "localhost")
        one.person, other.person = (
            person(f"{name}-{time.monotonic_ns()}") for name in ("ana", "ana-elsewhere")
        )
        yield one, other


@pytest.fixture
async def node(
    providers: tuple[StandIn, StandIn],
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
) -> AsyncIterator[Node]:
    """A node at which people may sign in with either."""
    environ = {
        "PORT": str(free_port()),
        "SUPABASE_PROJECT_URL": "",
        "SUPABASE_JWT_SECRET": "",
        "SIGN_IN_PROVIDERS": "acme,other",
    }
    for name, one in zip(("ACME", "OTHER"), providers, strict=True):
        environ[f"SIGN_IN_{name}_ISSUER"] = one.url
        environ[f"SIGN_IN_{name}_CLIENT_ID"] = CLIENT_ID
        environ[f"SIGN_IN_{name}_CLIENT_SECRET"] = CLIENT_SECRET
    started = await start_node(database.url, session, "", **environ)
    yield started
    await started.stop()


async def test_unmodified_supabase_js_goes_through_the_whole_story(
    node: Node, providers: tuple[StandIn, StandIn]
) -> None:
    """Redirect with and without PKCE, linking, unlinking, an ID token with a nonce."""
    nonce = "what the application knows"
    id_token = providers[0].id_token(hashlib.sha256(nonce.encode()).hexdigest())
    key = node.services.embedded.supabase_keys.publishable
    assert await told_by(STORY, node.url, key, id_token, nonce) == {
        "sign in by redirect, with PKCE": None,
        "sign in by redirect, without PKCE": None,
        "the wrong verifier opens nothing": None,
        "link another provider": None,
        "what is linked is not linked again": None,
        "unlink one, and not the last": None,
        "sign in with an ID token": None,
    }


# --- Chromium -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """A browser; each person opens a context of their own."""
    async with launched_chromium() as browser:
        yield browser


@NEEDS_CHROMIUM
@needs_page
async def test_button_of_the_web_chat_signs_in(
    node: Node, providers: tuple[StandIn, StandIn], chromium: Browser
) -> None:
    """One for each provider, and after it the chat; who comes by localhost as well."""
    for home in (node.url, node.url.replace("127.0.0.1", "localhost")):
        context = await chromium.new_context()
        page = await context.new_page()
        await page.goto(f"{home}/sign-in")
        await expect(page.get_by_role("button", name="Continue with Other")).to_be_visible()
        await page.get_by_role("button", name="Continue with Acme").click()
        await expect(page).to_have_url(re.compile(rf"^{re.escape(home)}/$"))
        await expect(page.get_by_role("textbox").first).to_be_visible()
        await context.close()
    assert len(providers[0].forms) == 2


@NEEDS_CHROMIUM
@needs_page
async def test_web_chat_says_what_went_wrong_at_the_provider(
    node: Node, providers: tuple[StandIn, StandIn], chromium: Browser
) -> None:
    """And the address that said so is cleaned up."""
    providers[0].back = {"error": "access_denied", "code": ...}
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(f"{node.url}/sign-in")
    await page.get_by_role("button", name="Continue with Acme").click()
    await expect(page.get_by_text("You were not signed in there.")).to_be_visible()
    await expect(page).to_have_url(f"{node.url}/sign-in")
    await context.close()


@NEEDS_CHROMIUM
@needs_page
async def test_form_of_another_site_brings_its_person_back(
    node: Node, providers: tuple[StandIn, StandIn], chromium: Browser
) -> None:
    """As Apple does it: no cookie comes with the form, and the page behind it has one."""
    providers[1].answers_with_a_form = True
    assert "localhost" in providers[1].url  # another site than this server's
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(authorize_url(node, "other", redirect_to=f"{node.url}/healthz"))
    await expect(page).to_have_url(re.compile(r"/healthz#access_token="))
    await context.close()


@NEEDS_CHROMIUM
@needs_page
async def test_way_back_of_somebody_else_signs_nobody_in(
    node: Node,
    providers: tuple[StandIn, StandIn],
    chromium: Browser,
    session: aiohttp.ClientSession,
) -> None:
    """In a real browser: the attacker's address is of no use to the victim's."""
    stop = f"{node.url}/auth/v1/callback"
    caught = await sign_in_providers.Browser(session).go(authorize_url(node), stop_at=stop)
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(f"{node.url}/auth/v1/authorize?provider=acme&redirect_to={node.url}/healthz")
    await expect(page).to_have_url(re.compile(r"/healthz#access_token="))  # it has a cookie
    forms = len(providers[0].forms)
    await page.goto(caught.url)
    await expect(page).to_have_url(f"{node.url}/sign-in")
    await expect(page.get_by_text("That took too long, or was begun in another")).to_be_visible()
    assert len(providers[0].forms) == forms
    await context.close()
