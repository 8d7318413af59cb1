"""A link from a mail in a real Chromium: the page, its button, and the application behind it.

The application is served by somebody else than Chatkeep and uses an unmodified supabase-js,
which takes tokens or code from the address that the browser arrives at.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from tests.chromium import NEEDS_CHROMIUM
from tests.gotrue_people import OURS_ALONE
from tests.http.mailbox import newest_to, path_of, secret_of
from tests.serving import serving, start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, BrowserContext, Page

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

LIBRARY = (
    Path(__file__).parents[1] / "clients/node_modules/@supabase/supabase-js/dist/umd/supabase.js"
)
APP = """<!doctype html><title>An app</title><script src=/supabase.js></script><script>
const flowType = location.pathname === "/pkce" ? "pkce" : "implicit";
const client = supabase.createClient("{node}", "{key}", {{ auth: {{ flowType }} }});
</script><p>An app</p>"""
FORGED = """<!doctype html><title>Evil</title>
<form method=post action="{node}/auth/v1/verify">
<input name=token value="{token}"><input name=type value=magiclink>
</form><script>document.forms[0].submit()</script>"""
_numbers = count()

pytestmark = [
    NEEDS_CHROMIUM,
    pytest.mark.skipif(not LIBRARY.exists(), reason="tests/clients is not installed: make test"),
]


@dataclass(slots=True, kw_only=True)
class World:
    """A node, an application at another origin, and a browser. *forged* is what `/evil` shows."""

    node: Node
    app: str
    context: BrowserContext
    forged: str = ""


@pytest.fixture
async def world(database: MigratedDatabase, browser: Browser) -> AsyncIterator[World]:
    """All of it, for one test."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        node = await start_node(database.url, session, "", MAILER_AUTOCONFIRM="off", **OURS_ALONE)
        stack.push_async_callback(node.stop)
        context = await browser.new_context()
        stack.push_async_callback(context.close)
        found = World(node=node, app="", context=context)
        found.app = await _serve_app(stack, found)
        yield found


async def _serve_app(stack: AsyncExitStack, world: World) -> str:
    key = world.node.services.embedded.supabase_keys.publishable

    async def page(_: web.Request) -> web.Response:
        text = APP.format(node=world.node.url, key=key)
        return web.Response(text=text, content_type="text/html")

    async def evil(_: web.Request) -> web.Response:
        return web.Response(text=world.forged, content_type="text/html")

    async def library(_: web.Request) -> web.FileResponse:
        return web.FileResponse(LIBRARY)

    pages = web.get("/supabase.js", library), web.get("/evil", evil), web.get("/{name}", page)
    address = await stack.enter_async_context(serving(*pages))
    # Another host than the node's, so that the two are of different sites.
    return address.replace("127.0.0.1", "localhost")


def new_address() -> str:
    """Return an address that nobody has yet."""
    return f"clicking-{next(_numbers)}@example.com"


async def ask(page: Page, world: World, flow: str) -> str:
    """Ask for a link in the application; return the address it was mailed to."""
    email = new_address()
    await page.goto(f"{world.app}/{flow}")
    error = await page.evaluate(
        "async ([email, emailRedirectTo]) => (await client.auth.signInWithOtp("
        "{ email, options: { emailRedirectTo } })).error",
        [email, f"{world.app}/{flow}"],
    )
    assert error is None
    return email


async def signed_in_as(page: Page) -> str | None:
    """Return the address that the application knows its visitor by."""
    found: str | None = await page.evaluate(
        "async () => (await client.auth.getSession()).data.session?.user.email ?? null"
    )
    return found


@pytest.mark.parametrize("flow", ["implicit", "pkce"])
async def test_person_clicks_through_to_the_application(world: World, flow: str) -> None:
    """One press, and the application has a session; no policy of the page is in the way."""
    page = await world.context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    email = await ask(page, world, flow)
    mail = await newest_to(world.node, email, "confirmation")
    await page.goto(world.node.url + path_of(mail.link))
    button = page.get_by_role("button")
    assert await button.is_visible()
    assert (
        await button.evaluate("one => getComputedStyle(one).backgroundColor") != "rgba(0, 0, 0, 0)"
    )
    assert complaints == []
    await button.click()
    await page.wait_for_url(f"{world.app}/{flow}**")
    assert await signed_in_as(page) == email
    assert complaints == []


async def test_page_of_another_site_signs_nobody_in(world: World) -> None:
    """A form that submits itself gets a refusal, and the link is still good for its reader."""
    page = await world.context.new_page()
    email = await ask(page, world, "implicit")
    mail = await newest_to(world.node, email, "confirmation")
    world.forged = FORGED.format(node=world.node.url, token=secret_of(mail.link))
    async with page.expect_response(lambda one: one.url.endswith("/auth/v1/verify")) as answer:
        await page.goto(f"{world.app}/evil")
    assert (await answer.value).status == 403
    await page.goto(world.node.url + path_of(mail.link))
    await page.get_by_role("button").click()
    await page.wait_for_url(f"{world.app}/implicit**")
    assert await signed_in_as(page) == email
