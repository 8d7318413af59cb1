"""Who has a second factor, and has shown the password alone, reaches nobody's chats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chatkeep.web.second_factor import ON_THE_WAY
from tests.http.test_cookie_sessions import Browser
from tests.http.test_factors import claims
from tests.http.test_factors_and_cookies import exchanged
from tests.http.test_matrix import PERSONAL, ROUTES
from tests.second_factors import PASSWORD, enroll, join, stepped_up, verify

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.http.test_matrix import Route
    from tests.second_factors import Member
    from tests.serving import Node

#: Not those of `/auth/v1`, which say themselves what they take, nor those of administrators.
OURS = [
    one
    for one in PERSONAL
    if not one.path.startswith(("/auth/v1/", "/api/admin/", "/api/sessions/watch"))
]
CLOSED = [one for one in OURS if (one.method, one.path) not in ON_THE_WAY]


@pytest.fixture(scope="module")
async def half(node: Node) -> Member:
    """Somebody with a second factor who has signed in with the password alone."""
    ana = await join(node)
    await stepped_up(ana)
    return await ana.again()


def test_what_is_open_on_the_way_is_there() -> None:
    """Each name on the list is a route's."""
    assert {(one.method, one.path) for one in ROUTES} >= ON_THE_WAY


@pytest.mark.parametrize("route", CLOSED, ids=str)
async def test_nothing_is_reached_before_the_factor(route: Route, half: Member) -> None:
    """Every route but the few on the way asks for it (RFC 9470), and says nothing else."""
    answer = await route.call(half.client, "a-conversation")
    assert answer.status == 401
    assert b"step_up_required" in answer.body
    challenge = answer.headers["www-authenticate"]
    assert challenge == 'Bearer error="insufficient_user_authentication", acr_values="aal2"'


async def test_way_to_the_factor_is_open(node: Node) -> None:
    """They learn who they are, show the factor, and are where they were; or sign out."""
    ana = await join(node)
    app = await stepped_up(ana)
    half = await ana.again()
    assert claims(half.session)["next_aal"] == "aal2"
    assert (await half.client.get("/auth/me")).json["id"].endswith(ana.id)
    assert (await half.client.get("/api/access")).status == 200
    refreshed = await half.refresh()
    assert claims(refreshed.json)["next_aal"] == "aal2"
    half.holds(refreshed.json)
    raised = await verify(half, app)
    assert raised.status == 200, raised.text
    half.holds(raised.json)
    assert "next_aal" not in claims(half.session)
    assert (await half.client.get("/api/v1/chat")).status == 200
    other = await ana.again()
    assert (await other.client.post("/auth/logout", {})).status == 200
    assert (await other.client.get("/auth/v1/user")).status == 403


async def test_cookie_owes_what_its_sign_in_owes(node: Node) -> None:
    """By password or in exchange for a bearer: a browser is no way around the factor."""
    ana = await join(node)
    early = ana.session["access_token"]
    await stepped_up(ana)
    by_password = Browser(node)
    sign_in = {"email": ana.email, "password": PASSWORD}
    assert (await by_password.call("POST", "/auth/sign-in", sign_in)).status == 200
    of_half = await exchanged(node, (await ana.again()).session["access_token"])
    from_before = await exchanged(node, early)
    for browser in (by_password, of_half, from_before):
        refused = await browser.call("GET", "/api/v1/chat")
        assert (refused.status, refused.json["code"]) == (401, "step_up_required")
        assert (await browser.call("GET", "/auth/me")).json["id"].endswith(ana.id)
    whole = await exchanged(node, ana.session["access_token"])
    assert (await whole.call("GET", "/api/v1/chat")).status == 200


async def test_who_must_have_a_factor_sets_one_up_first(start: StartNode) -> None:
    """The password opens nothing again and again, a quarter of an hour at a time."""
    node = await start(MFA_REQUIRED="everybody")
    ana = await join(node)
    refused = await ana.client.get("/api/v1/chat")
    assert (refused.status, refused.json["code"]) == (401, "step_up_required")
    app = await enroll(ana)
    ana.holds((await verify(ana, app)).json)
    assert (await ana.client.get("/api/v1/chat")).status == 200
