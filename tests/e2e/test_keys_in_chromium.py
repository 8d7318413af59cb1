"""Security keys and passkeys in a real Chromium, through an unmodified supabase-js in its page.

Chromium's own virtual authenticators are plugged in; the page is served by somebody else
than Chatkeep, as an application of one's own would be.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from tests.chromium import NEEDS_CHROMIUM, plug_in, webauthn
from tests.second_factors import App, join
from tests.serving import serving, start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, CDPSession, Page

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

LIBRARY = (
    Path(__file__).parents[1] / "clients/node_modules/@supabase/supabase-js/dist/umd/supabase.js"
)
PAGE = "<!doctype html><title>An app</title><script src=/supabase.js></script><img><input>"
PASSWORD = "Correct-Horse-42-battery"

pytestmark = [
    NEEDS_CHROMIUM,
    pytest.mark.skipif(not LIBRARY.exists(), reason="tests/clients is not installed: make test"),
]


@dataclass(slots=True)
class Visitor:
    """Somebody at a page with an authenticator."""

    page: Page
    devtools: CDPSession
    authenticator: str = ""

    async def plug_in(self, *, transport: str = "internal", **abilities: bool) -> None:
        """Plug in an authenticator, by default one with a finger on it."""
        self.authenticator = await plug_in(self.devtools, transport=transport, **abilities)

    async def call(self, script: str, argument: object = None) -> Any:  # noqa: ANN401 -- JSON
        """Run *script* with `supabase` in the page; fail on an error that it returns."""
        found = await self.page.evaluate(script, argument)
        if isinstance(found, dict):
            assert found.get("error") is None, found["error"]
        return found

    async def claims(self) -> dict[str, Any]:
        """Return what the access token in the page says."""
        found: dict[str, Any] = await self.call(
            "async () => (await supabase.auth.getClaims()).data.claims"
        )
        return found


@asynccontextmanager
async def app_served() -> AsyncIterator[str]:
    """Serve the application's page; yield its origin."""

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def library(_: web.Request) -> web.FileResponse:
        return web.FileResponse(LIBRARY)

    async with serving(web.get("/", index), web.get("/supabase.js", library)) as address:
        yield address.replace("127.0.0.1", "localhost")


@pytest.fixture
async def place(database: MigratedDatabase) -> AsyncIterator[tuple[Node, str]]:
    """A server of our own issuer, and the origin of an application that uses it."""
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(app_served())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        node = await start_node(
            database.url,
            session,
            "",
            SUPABASE_PROJECT_URL="",
            SUPABASE_JWT_SECRET="",
            WEBAUTHN_ORIGINS=origin,
        )
        yield node, origin
        await node.stop()


@pytest.fixture
async def visitor(browser: Browser, place: tuple[Node, str]) -> AsyncIterator[Visitor]:
    """Somebody who has just signed up in the page."""
    node, origin = place
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(origin)
    arriving = Visitor(page, await webauthn(page))
    member = await join(node)
    await arriving.call(
        "([url, key, email, password]) => {"
        " window.supabase = window.supabase.createClient(url, key,"
        "  { auth: { experimental: { recoveryCodes: true } } });"
        " window.again = () => supabase.auth.signInWithPassword({ email, password });"
        " return again(); }",
        [node.url, node.services.embedded.supabase_keys.publishable, member.email, PASSWORD],
    )
    yield arriving
    await context.close()


async def test_authenticator_app_in_the_page(visitor: Visitor) -> None:
    """The picture shows, a code raises the session, and recovery codes stand in for the app."""
    factor = await visitor.call(
        "async () => { const { data, error } = await supabase.auth.mfa.enroll("
        "  { factorType: 'totp', friendlyName: 'Phone' });"
        " const image = document.querySelector('img'); image.src = data.totp.qr_code;"
        " await image.decode();"
        " return { error, id: data.id, secret: data.totp.secret, width: image.naturalWidth }; }"
    )
    assert factor["width"] > 100
    app = App(factor_id=factor["id"], secret=factor["secret"])
    await visitor.call(
        "([factorId, code]) => supabase.auth.mfa.challengeAndVerify({ factorId, code })",
        [app.factor_id, app.code()],
    )
    said = await visitor.claims()
    assert (said["aal"], said["amr"][0]["method"]) == ("aal2", "totp")
    codes = await visitor.call("() => supabase.auth.mfa.recoveryCodes.generate()")
    await visitor.call("() => again()")
    levels = await visitor.call("() => supabase.auth.mfa.getAuthenticatorAssuranceLevel()")
    assert (levels["data"]["currentLevel"], levels["data"]["nextLevel"]) == ("aal1", "aal2")
    await visitor.call(
        "(code) => supabase.auth.mfa.recoveryCodes.verify({ code })", codes["data"]["codes"][3]
    )
    left = await visitor.call("() => supabase.auth.mfa.recoveryCodes.getStatus()")
    assert (left["data"]["total"], left["data"]["remaining"]) == (10, 9)
    listed = await visitor.call("() => supabase.auth.mfa.listFactors()")
    assert [one["friendly_name"] for one in listed["data"]["totp"]] == ["Phone"]
    assert len(listed["data"]["recovery_code"]) == 1
    await visitor.call("(factorId) => supabase.auth.mfa.unenroll({ factorId })", app.factor_id)
    listed = await visitor.call("() => supabase.auth.mfa.listFactors()")
    assert listed["data"]["all"] == []


async def test_security_key_in_the_page(visitor: Visitor) -> None:
    """supabase-js registers it, and asks for it after the next sign-in."""
    await visitor.plug_in(transport="usb", hasResidentKey=False, hasUserVerification=False)
    await visitor.call("() => supabase.auth.mfa.webauthn.register({ friendlyName: 'Blue key' })")
    said = await visitor.claims()
    assert (said["aal"], said["amr"][0]["method"]) == ("aal2", "mfa/webauthn")
    await visitor.call("() => again()")
    assert (await visitor.claims())["aal"] == "aal1"
    await visitor.call(
        "async () => { const { data } = await supabase.auth.mfa.listFactors();"
        " return supabase.auth.mfa.webauthn.authenticate({ factorId: data.webauthn[0].id }); }"
    )
    assert (await visitor.claims())["aal"] == "aal2"


async def test_passkey_in_the_page(visitor: Visitor) -> None:
    """supabase-js registers it, signs in with it alone, renames and deletes it."""
    await visitor.plug_in()
    made = await visitor.call("() => supabase.auth.registerPasskey()")
    assert "Chrome" in made["data"]["friendly_name"]
    await visitor.call("() => supabase.auth.signOut()")
    signed_in = await visitor.call("() => supabase.auth.signInWithPasskey()")
    assert signed_in["data"]["session"]["user"]["id"]
    said = await visitor.claims()
    assert (said["aal"], said["amr"][0]["method"]) == ("aal2", "passkey")
    passkey = made["data"]["id"]
    renamed = await visitor.call(
        "(passkeyId) => supabase.auth.passkey.update({ passkeyId, friendlyName: 'Thumb' })",
        passkey,
    )
    assert renamed["data"]["friendly_name"] == "Thumb"
    listed = await visitor.call("() => supabase.auth.passkey.list()")
    assert [one["id"] for one in listed["data"]] == [passkey]
    await visitor.call("(passkeyId) => supabase.auth.passkey.delete({ passkeyId })", passkey)
    refused = await visitor.page.evaluate(
        "async () => (await supabase.auth.signInWithPasskey()).error.code"
    )
    assert refused == "webauthn_verification_failed"


async def test_passkey_fills_in_the_form(visitor: Visitor) -> None:
    """Conditional mediation: the browser offers the passkey by itself."""
    await visitor.plug_in()
    await visitor.call("() => supabase.auth.registerPasskey()")
    await visitor.call("() => supabase.auth.signOut()")
    await visitor.page.evaluate(
        "() => { document.querySelector('input').autocomplete = 'username webauthn';"
        " document.querySelector('input').focus(); }"
    )
    signed_in = await visitor.call(
        "() => supabase.auth.signInWithPasskey({ options: { mediation: 'conditional' } })"
    )
    assert signed_in["data"]["session"]["user"]["id"]


async def test_locked_authenticator_signs_nobody_in(visitor: Visitor) -> None:
    """A finger that is not the owner's is refused by the browser, before we are asked."""
    await visitor.plug_in()
    await visitor.call("() => supabase.auth.registerPasskey()")
    await visitor.devtools.send(
        "WebAuthn.setUserVerified",
        {"authenticatorId": visitor.authenticator, "isUserVerified": False},
    )
    refused = await visitor.page.evaluate("() => supabase.auth.signInWithPasskey()")
    assert refused["error"] is not None
