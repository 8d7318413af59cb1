"""Second factors and the session cookie: what was weak before stays weak."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from chatkeep.administration.administrators import grant_role
from tests.http.test_cookie_sessions import Browser
from tests.http.test_factors import claims
from tests.second_factors import PASSWORD, enroll, forget_codes, join, stepped_up, verify

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.serving import Node


async def exchanged(node: Node, bearer: str) -> Browser:
    """Return a browser that was signed in with *bearer*."""
    browser = Browser(node)
    answer = await browser.call("POST", "/auth/session", authorization=f"Bearer {bearer}")
    assert answer.status == 200, answer.text
    return browser


def said(browser: Browser) -> tuple[str, list[str]]:
    """Return the assurance level and the proofs in the cookie."""
    found = claims({"access_token": browser.cookie})
    return found["aal"], [one["method"] for one in found["amr"]]


async def test_cookie_says_by_what_its_session_was_raised(node: Node) -> None:
    """A bearer at AAL2 is exchanged for a cookie at AAL2, the newest proof first."""
    ana = await join(node)
    await stepped_up(ana)
    browser = await exchanged(node, ana.session["access_token"])
    assert said(browser) == ("aal2", ["totp", "password"])


async def test_token_from_before_makes_no_stronger_cookie(node: Node) -> None:
    """An access token stolen before the second factor is exchanged for what it was."""
    ana = await join(node)
    stolen = ana.session["access_token"]
    await stepped_up(ana)
    assert said(await exchanged(node, stolen)) == ("aal1", ["password"])


async def test_cookie_from_before_is_not_renewed(node: Node) -> None:
    """A cookie stolen before the second factor stays weak, and ends when it says."""
    ana = await join(node)
    browser = await exchanged(node, ana.session["access_token"])
    cookie = await node.services.session_tokens.read(str(browser.cookie))
    assert cookie.expires_at is not None
    older = replace(cookie, expires_at=cookie.expires_at - timedelta(hours=1))
    session_id = UUID(str(cookie.claims["sid"]))
    renewed = await node.services.browser_sessions._renewed(older, session_id)
    assert renewed is not None
    assert said(browser) == ("aal1", ["password"])
    await stepped_up(ana)
    assert await node.services.browser_sessions._renewed(older, session_id) is None


async def test_required_factor_leaves_a_cookie_a_quarter_of_an_hour(start: StartNode) -> None:
    """By password or in exchange, without the factor it is short and is not renewed."""
    node = await start(MFA_REQUIRED="everybody")
    ana = await join(node)
    signed_in = await Browser(node).call(
        "POST", "/auth/sign-in", {"email": ana.email, "password": PASSWORD}
    )
    browser = Browser(node)
    taken = await browser.call(
        "POST", "/auth/session", authorization=f"Bearer {ana.session['access_token']}"
    )
    for answer in (signed_in, taken):
        assert 880 <= answer.json["expires_in"] <= 900
    cookie = await node.services.session_tokens.read(str(browser.cookie))
    older = replace(cookie, expires_at=None)
    session_id = UUID(str(cookie.claims["sid"]))
    assert await node.services.browser_sessions._renewed(older, session_id) is None
    await stepped_up(ana)
    strong = await exchanged(node, ana.session["access_token"])
    assert claims({"access_token": strong.cookie})["exp"] > claims(ana.session)["exp"]


async def test_what_was_proved_with_a_factor_that_was_taken_away_counts_no_more(
    node: Node,
) -> None:
    """A lost phone's factor is removed: its token and cookie say AAL2 still, and reach nothing."""
    ana = await join(node)
    phone = await stepped_up(ana, "phone")
    ana.holds((await verify(ana, await enroll(ana, "other phone"))).json)
    await forget_codes(ana)
    lost = await ana.again()
    lost.holds((await verify(lost, phone)).json)
    browser = await exchanged(node, lost.session["access_token"])
    await grant_role(node.services.embedded, UUID(ana.id), "admin", actor="operator")

    async def reached() -> list[int]:
        wanted = {"name": "x", "scopes": ["chat"]}
        return [
            (await lost.client.get("/api/admin/users")).status,
            (await browser.call("GET", "/api/admin/users")).status,
            (await lost.client.post("/api/keys", wanted)).status,
            (await browser.call("POST", "/api/keys", wanted)).status,
        ]

    assert await reached() == [200] * 4
    assert (await ana.client.delete(f"/auth/v1/factors/{phone.factor_id}")).status == 200
    assert said(browser)[0] == claims(lost.session)["aal"] == "aal2"
    assert await reached() == [401] * 4
    refused = await browser.call("GET", "/api/admin/users")
    assert refused.json["code"] == "step_up_required"


async def test_cookie_from_before_administers_nothing_where_that_needs_a_factor(
    start: StartNode,
) -> None:
    """Whoever becomes an administrator shows a second factor first, however they signed in."""
    node = await start(MFA_REQUIRED="admins")
    ana = await join(node)
    browser = await exchanged(node, ana.session["access_token"])
    await grant_role(node.services.embedded, UUID(ana.id), "admin", actor="operator")
    for answer in (
        await browser.call("GET", "/api/admin/users"),
        await ana.client.get("/api/admin/users"),
    ):
        assert (answer.status, answer.json["code"]) == (401, "step_up_required")
    await stepped_up(ana)
    assert (await ana.client.get("/api/admin/users")).status == 200
