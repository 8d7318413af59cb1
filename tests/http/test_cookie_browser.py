"""The session cookie in a real Chromium, and pages of two other origins that want to use it.

One of them is on the same host and another port: to a browser that is the same site, so it
sends the cookie along, and only the server stands in the way. The other one is another site.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from aiohttp import web

from chatkeep.sessions.cookie_tokens import cookie_name
from tests.chromium import NEEDS_CHROMIUM, launched_chromium
from tests.patience import PATIENCE_S
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, BrowserContext, Page

    from tests.serving import Node

pytestmark = NEEDS_CHROMIUM

COOKIE = cookie_name(production=False)
PASSWORD = "Correct-Horse-42"
CALL = """
async ([method, path, body]) => {
  const headers = body === null ? {} : {"Content-Type": "application/json"};
  const answer = await fetch(path, {method, headers, body});
  const text = await answer.text();
  return {status: answer.status, body: text && JSON.parse(text)};
}
"""
READ = """
async ([address, credentials]) => {
  try {
    return await (await fetch(address, {credentials})).text();
  } catch (error) {
    return `not readable: ${error.name}`;
  }
}
"""
SEND = """
async ([address, body, type]) => {
  try {
    await fetch(address, {method: "POST", mode: "no-cors", credentials: "include", body,
      headers: {"Content-Type": type}});
  } catch {}
}
"""


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for these tests; each of them opens contexts of its own."""
    async with launched_chromium() as browser:
        yield browser


@pytest.fixture
async def context(chromium: Browser, node: Node) -> AsyncIterator[BrowserContext]:
    """Somebody's browser."""
    opened = await chromium.new_context(base_url=node.url)
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
async def elsewhere() -> AsyncIterator[int]:
    """The port of somebody else's pages, which hold whatever `?page=` says."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=request.query.get("page", ""), content_type="text/html")

    async with serving(web.get("/", page)) as address:
        yield int(address.rpartition(":")[2])


async def call(
    page: Page, method: str, path: str, body: object = None
) -> tuple[int, dict[str, object]]:
    """Call the server as a script of its own page does."""
    found = await page.evaluate(CALL, [method, path, None if body is None else json.dumps(body)])
    return found["status"], found["body"]


async def own_page(context: BrowserContext, node: Node) -> Page:
    """Open a page of the server's origin."""
    page = await context.new_page()
    await page.goto(f"{node.url}/healthz")
    return page


async def sign_in(page: Page, node: Node) -> str:
    """Sign somebody new in; return their address."""
    email = f"{uuid4()}@example.com"
    body = {"email": email, "password": PASSWORD}
    assert (await node.nobody().post("/auth/v1/signup", body)).status == 200
    status, answer = await call(page, "POST", "/auth/sign-in", body)
    assert status == 200, answer
    return email


async def cookies(context: BrowserContext) -> dict[str, object]:
    """Return the session cookie as the browser keeps it, if it does."""
    found = [dict(one) for one in await context.cookies() if one.get("name") == COOKIE]
    return found[0] if found else {}


async def test_browser_stays_signed_in_after_it_was_closed(
    chromium: Browser, context: BrowserContext, node: Node
) -> None:
    """No script sees the cookie, and a browser that comes back is signed in by it."""
    page = await own_page(context, node)
    email = await sign_in(page, node)
    kept = await cookies(context)
    assert (kept["httpOnly"], kept["sameSite"], kept["path"]) == (True, "Lax", "/")
    assert await page.evaluate("document.cookie") == ""
    stored = await context.storage_state()
    await context.close()
    later = await chromium.new_context(base_url=node.url, storage_state=stored)
    status, me = await call(await own_page(later, node), "GET", "/auth/me")
    assert (status, me["email"]) == (200, email)
    await later.close()


async def test_sign_out_takes_the_cookie_from_the_browser(
    context: BrowserContext, node: Node
) -> None:
    """D11: gone from the browser with what the page had stored, and a copy of it is a 401."""
    page = await own_page(context, node)
    await sign_in(page, node)
    await page.evaluate("localStorage.setItem('draft', 'secret')")
    copy = (await cookies(context))["value"]
    status, answer = await call(page, "POST", "/auth/logout")
    assert (status, answer) == (200, {"success": True, "revoked": True})
    assert await cookies(context) == {}
    assert await page.evaluate("localStorage.getItem('draft')") is None
    assert (await node.nobody(cookie=f"{COOKIE}={copy}").get("/auth/me")).status == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "cross site"])
async def test_page_of_another_origin_neither_reads_nor_writes(
    context: BrowserContext, node: Node, elsewhere: int, host: str
) -> None:
    """D05, D07, D08: by script, it signs nobody out, changes nothing and learns nothing."""
    page = await own_page(context, node)
    email = await sign_in(page, node)
    evil = await context.new_page()
    await evil.goto(f"http://{host}:{elsewhere}/")
    for credentials in ("include", "same-origin"):
        for path in ("/auth/me", "/api/sessions", "/api/settings"):
            assert email not in await evil.evaluate(READ, [node.url + path, credentials])
    for path in ("/auth/logout", "/api/sessions/revoke-all", "/auth/token/refresh"):
        for media_type in ("text/plain", "application/x-www-form-urlencoded"):
            await evil.evaluate(SEND, [node.url + path, "", media_type])
            await evil.evaluate(SEND, [node.url + path, "{}", media_type])
    status, me = await call(page, "GET", "/auth/me")
    assert (status, me["email"]) == (200, email)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "cross site"])
@pytest.mark.parametrize("encoding", ["text/plain", "multipart/form-data", ""])
async def test_form_of_another_origin_changes_nothing(
    context: BrowserContext, node: Node, elsewhere: int, host: str, encoding: str
) -> None:
    """D03: posted with all the cookies that a browser adds, a form is refused everywhere."""
    page = await own_page(context, node)
    email = await sign_in(page, node)
    for path in ("/auth/logout", "/api/sessions/revoke-all", "/api/v1/chat/start"):
        status = await posted_by_form(
            context, f"http://{host}:{elsewhere}", node.url + path, encoding, {"x": "1"}
        )
        assert status in {403, 415}
    assert (await call(page, "GET", "/auth/me"))[1]["email"] == email
    assert (await call(page, "GET", "/api/v1/chat"))[1]["conversations"] == []


async def test_form_signs_no_visitor_in_as_somebody_else(
    context: BrowserContext, node: Node, elsewhere: int
) -> None:
    """D08: a form that types JSON into text/plain, with a good password, sets no cookie."""
    email = f"{uuid4()}@example.com"
    body = {"email": email, "password": PASSWORD}
    assert (await node.nobody().post("/auth/v1/signup", body)).status == 200
    half, rest = json.dumps({**body, "x": "="}).split("=", 1)
    for host in ("127.0.0.1", "localhost"):
        origin = f"http://{host}:{elsewhere}"
        target = f"{node.url}/auth/sign-in"
        assert await posted_by_form(context, origin, target, "text/plain", {half: rest}) == 415
    assert await cookies(context) == {}


async def posted_by_form(
    context: BrowserContext, origin: str, target: str, encoding: str, fields: dict[str, str]
) -> int:
    """Send a form from a page of *origin* to *target*; return the status of the answer."""
    page = await context.new_page()
    await page.goto(f"{origin}/")
    build = """
    ([target, encoding, fields]) => {
      const form = document.createElement("form");
      form.method = "POST";
      form.action = target;
      if (encoding) form.enctype = encoding;
      for (const [name, value] of Object.entries(fields)) {
        const input = document.createElement("input");
        [input.type, input.name, input.value] = ["hidden", name, value];
        form.append(input);
      }
      document.body.append(form);
      form.submit();
    }
    """
    async with asyncio.timeout(PATIENCE_S):
        async with page.expect_response(target) as answered:
            await page.evaluate(build, [target, encoding, fields])
        status = (await answered.value).status
    await page.close()
    return int(status)
