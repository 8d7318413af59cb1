"""An account that is suspended or deleted between two steps of a sign-in: no session begins.

Each way to sign in that takes several requests is stopped between two of them. Then the
account is suspended or deleted, as an administrator does it; then the sign-in goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import pyotp
import pytest

from chatkeep.administration.accounts import (
    LONGEST_BAN,
    NOT_BANNED,
    Wanted,
    change_account,
    delete_account,
)
from chatkeep.db import AUTH
from tests.authenticators import Authenticator, registered
from tests.free_ports import free_port
from tests.gotrue_people import code_of
from tests.http.mailbox import landed, newest_to, open_and_press
from tests.http.test_sign_in_providers import bearer, new_name, proven, settings_of
from tests.second_factors import Member, challenge, enroll, forget_codes, join, stepped_up
from tests.serving import start_node
from tests.sign_in_providers import (
    APP,
    Browser,
    StandIn,
    authorize_url,
    person,
    pkce,
    stand_in,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Node
    from tests.sign_in_providers import Page

VERIFIER = "v" * 56

#: The rest of a sign-in: what it comes to, as one says it of which session it began.
Rest = Callable[[], Awaitable["str | None"]]


@pytest.fixture(scope="module")
async def acme() -> AsyncIterator[StandIn]:
    """A provider that people sign in with."""
    async with stand_in() as one:
        yield one


@pytest.fixture(scope="module")
async def node(
    acme: StandIn, database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that has every way to sign in."""
    environ = {
        **settings_of(("acme", acme)),
        "PORT": str(free_port()),
        "MANUAL_LINKING": "on",
        "REDIRECT_URLS": APP,
    }
    started = await start_node(database.url, session, project, **environ)
    yield started
    await started.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where it happens."""

    node: Node
    acme: StandIn
    http: aiohttp.ClientSession


@pytest.fixture
def stage(node: Node, acme: StandIn, session: aiohttp.ClientSession) -> Stage:
    """The node, a provider, and what browsers send with."""
    return Stage(node=node, acme=acme, http=session)


def token_in(answer: Answer) -> str | None:
    """Return the access token that an answer gives, if it does."""
    if answer.status != 200:
        assert answer.status in {400, 401, 403, 404, 422}, answer.text
        return None
    given: str = answer.json["access_token"]
    return given


# --- ways to sign in, up to their last step -------------------------------------------------------


async def code_of_an_app(stage: Stage, ana: Member) -> Rest:
    """A password, and the challenge of a second factor; the code is still to be typed."""
    app = await stepped_up(ana)
    weak = await ana.again()
    challenge_id = await challenge(weak, app.factor_id)
    await forget_codes(ana)

    async def rest() -> str | None:
        asked = {"challenge_id": challenge_id, "code": pyotp.TOTP(app.secret).now()}
        return token_in(await weak.client.post(f"/auth/v1/factors/{app.factor_id}/verify", asked))

    return rest


async def passkey(stage: Stage, ana: Member) -> Rest:
    """The challenge of a sign-in without a password; the finger is not on it yet."""
    key = Authenticator(origin=f"http://localhost:{stage.node.port}")
    assert (await registered(ana, key)).status == 200
    offer = (await stage.node.nobody().post("/auth/v1/passkeys/authentication/options", {})).json

    async def rest() -> str | None:
        shown = {"challenge_id": offer["challenge_id"], "credential": key.get(offer["options"])}
        return token_in(
            await stage.node.nobody().post("/auth/v1/passkeys/authentication/verify", shown)
        )

    return rest


async def at_the_provider(stage: Stage, ana: Member, **asked: str) -> tuple[Browser, Page]:
    """Send a browser to the provider, which sends it back; it has not come back yet."""
    await proven(stage.node, ana.email)
    stage.acme.person = person(new_name(), email=ana.email)
    browser = Browser(stage.http)
    first = await browser.go(authorize_url(stage.node))
    assert (await bearer(stage.node, first).get("/auth/v1/user")).json["id"] == ana.id
    callback = f"{stage.node.url}/auth/v1/callback"
    return browser, await browser.go(authorize_url(stage.node, **asked), stop_at=callback)


async def implicit_flow(stage: Stage, ana: Member) -> Rest:
    """Between `/authorize` and `/callback`."""
    browser, back = await at_the_provider(stage, ana)

    async def rest() -> str | None:
        return (await browser.go(back.url)).fragment.get("access_token")

    return rest


async def pkce_flow(stage: Stage, ana: Member) -> Rest:
    """Between `/authorize` and `/callback`, with a code at its end."""
    browser, back = await at_the_provider(stage, ana, **pkce(VERIFIER))

    async def rest() -> str | None:
        code = (await browser.go(back.url)).query.get("code")
        return None if code is None else await redeemed(stage, code)

    return rest


async def code_of_a_provider(stage: Stage, ana: Member) -> Rest:
    """Between the code and its exchange."""
    browser, back = await at_the_provider(stage, ana, **pkce(VERIFIER))
    code = (await browser.go(back.url)).query["code"]

    async def rest() -> str | None:
        return await redeemed(stage, code)

    return rest


async def id_token(stage: Stage, ana: Member) -> Rest:
    """Between a native sign-in at the provider and showing here what it gave."""
    await at_the_provider(stage, ana)
    given = stage.acme.id_token()

    async def rest() -> str | None:
        body = {"provider": "acme", "id_token": given}
        return token_in(await stage.node.nobody().post("/auth/v1/token?grant_type=id_token", body))

    return rest


async def mailed_link(stage: Stage, ana: Member) -> Rest:
    """Between the mail and the button on its page."""
    await ask_for_mail(stage, ana)
    mail = await newest_to(stage.node, ana.email, "magic_link")

    async def rest() -> str | None:
        answer = await open_and_press(stage.node.nobody(), mail.link)
        return landed(answer)[2].get("access_token") if answer.status == 303 else None

    return rest


async def mailed_code(stage: Stage, ana: Member) -> Rest:
    """Between the mail and typing in what stands in it."""
    await ask_for_mail(stage, ana)
    mail = await newest_to(stage.node, ana.email, "magic_link")

    async def rest() -> str | None:
        body = {"type": "email", "email": ana.email, "token": mail.code}
        return token_in(await stage.node.nobody().post("/auth/v1/verify", body))

    return rest


async def lost_password(stage: Stage, ana: Member) -> Rest:
    """Between the mail for a lost password and its code."""
    answer = await stage.node.nobody().post("/auth/v1/recover", {"email": ana.email})
    assert answer.status == 200, answer.text
    mail = await newest_to(stage.node, ana.email, "recovery")

    async def rest() -> str | None:
        body = {"type": "recovery", "email": ana.email, "token": mail.code}
        return token_in(await stage.node.nobody().post("/auth/v1/verify", body))

    return rest


async def code_of_a_mail(stage: Stage, ana: Member) -> Rest:
    """Between the code that a mailed link ended with, and its exchange.

    It is not the first that she shows, which would drop her password.
    """
    await stage.node.services.db.execute(
        AUTH,
        "update chatkeep.identities set identity_data = identity_data"
        " || jsonb_build_object('email_verified', true) where user_id = %s",
        (UUID(ana.id),),
    )
    await ask_for_mail(stage, ana, **pkce(VERIFIER))
    mail = await newest_to(stage.node, ana.email, "magic_link")
    code = landed(await open_and_press(stage.node.nobody(), mail.link))[1]["code"]

    async def rest() -> str | None:
        return await redeemed(stage, code)

    return rest


async def ask_for_mail(stage: Stage, ana: Member, **more: str) -> None:
    """Ask for a link and a code to sign in with."""
    body = {"email": ana.email, "create_user": False, **more}
    answer = await stage.node.nobody().post(f"/auth/v1/otp?redirect_to={APP}", body)
    assert answer.status == 200, answer.text


async def redeemed(stage: Stage, code: str) -> str | None:
    """Exchange the code of a PKCE flow."""
    body = {"auth_code": code, "code_verifier": VERIFIER}
    return token_in(await stage.node.nobody().post("/auth/v1/token?grant_type=pkce", body))


async def renewal(stage: Stage, ana: Member) -> Rest:
    """Between two refreshes."""

    async def rest() -> str | None:
        return token_in(await ana.refresh())

    return rest


WAYS = [
    code_of_an_app,
    passkey,
    implicit_flow,
    pkce_flow,
    code_of_a_provider,
    id_token,
    mailed_link,
    mailed_code,
    lost_password,
    code_of_a_mail,
    renewal,
]


# --- what ends an account -------------------------------------------------------------------------


async def suspended(stage: Stage, ana: Member) -> None:
    """For ever."""
    issuer = stage.node.services.embedded
    await change_account(issuer, UUID(ana.id), Wanted(banned_for=LONGEST_BAN), actor="operator")


async def suspended_for_a_moment(stage: Stage, ana: Member) -> None:
    """And the suspension is over before the sign-in goes on: what was under way has ended."""
    await suspended(stage, ana)
    issuer = stage.node.services.embedded
    await change_account(issuer, UUID(ana.id), Wanted(banned_for=NOT_BANNED), actor="operator")


async def deleted(stage: Stage, ana: Member) -> None:
    """With everything that says who it was."""
    await delete_account(stage.node.services.embedded, UUID(ana.id), actor="operator")


async def deleted_but_for_the_id(stage: Stage, ana: Member) -> None:
    """As Supabase's soft deletion."""
    issuer = stage.node.services.embedded
    await delete_account(issuer, UUID(ana.id), actor="operator", keep_row=True)


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are."""

    count: int


async def live_sessions(node: Node, user_id: str) -> int:
    """Count the sessions of a person that have not ended."""
    found = await node.services.db.fetch(
        AUTH,
        "select count(*) as count from public.user_sessions where user_id = %s and is_active",
        (user_id,),
        row=Count,
    )
    return found[0].count


@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.__name__)
async def test_each_way_signs_in_when_nothing_happens(
    stage: Stage, way: Callable[[Stage, Member], Awaitable[Rest]]
) -> None:
    """So that what follows shows something."""
    ana = await join(stage.node)
    given = await (await way(stage, ana))()
    assert given is not None
    me = await stage.node.nobody(authorization=f"Bearer {given}").get("/auth/v1/user")
    assert me.json["id"] == ana.id


@pytest.mark.parametrize(
    "end", [suspended, deleted, deleted_but_for_the_id], ids=lambda one: one.__name__
)
@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.__name__)
async def test_no_session_begins_between_the_steps(
    stage: Stage,
    way: Callable[[Stage, Member], Awaitable[Rest]],
    end: Callable[[Stage, Member], Awaitable[None]],
) -> None:
    """Whichever step is the last one: whoever is suspended or deleted before it stays out."""
    ana = await join(stage.node)
    rest = await way(stage, ana)
    await end(stage, ana)
    found = await rest()
    if end is not suspended and way in {implicit_flow, pkce_flow, id_token} and found:
        # Whom the provider knows, and nobody here any more, is somebody new.
        me = await stage.node.nobody(authorization=f"Bearer {found}").get("/auth/v1/user")
        assert me.json["id"] != ana.id
        assert me.json["email"] == ana.email
    else:
        assert found is None
    assert await live_sessions(stage.node, ana.id) == 0


@pytest.mark.parametrize(
    "way",
    [code_of_an_app, code_of_a_provider, code_of_a_mail, renewal],
    ids=lambda one: one.__name__,
)
async def test_what_was_proved_before_is_worth_nothing_after_a_lifted_suspension(
    stage: Stage, way: Callable[[Stage, Member], Awaitable[Rest]]
) -> None:
    """A session, or the code for one, does not come back with the permission to sign in."""
    ana = await join(stage.node)
    rest = await way(stage, ana)
    await suspended_for_a_moment(stage, ana)
    assert await rest() is None
    assert await live_sessions(stage.node, ana.id) == 0
    await ana.again()  # who signs in anew is let in


# --- what would be a way to sign in later ---------------------------------------------------------


@pytest.mark.parametrize("end", [None, suspended], ids=["nothing", "suspended"])
async def test_nothing_is_added_to_a_suspended_account(
    stage: Stage, end: Callable[[Stage, Member], Awaitable[None]] | None
) -> None:
    """Neither a factor, nor a passkey, nor a provider whose linking was begun before."""
    ana = await join(stage.node)
    browser, back = await on_the_way_to_link(stage, ana)
    key = Authenticator(origin=f"http://localhost:{stage.node.port}")
    offer = (await ana.client.post("/auth/v1/passkeys/registration/options", {})).json
    app = await enroll(ana)
    challenge_id = await challenge(ana, app.factor_id)
    if end is not None:
        await end(stage, ana)
    await browser.go(back.url)
    made = await registered(ana, key, offer)
    code = {"challenge_id": challenge_id, "code": app.code()}
    verified = await ana.client.post(f"/auth/v1/factors/{app.factor_id}/verify", code)
    if end is None:
        assert {made.status, verified.status} == {200}
        assert await kept(stage.node, ana.id) == [1, 1, 1]
    else:
        assert {code_of(made), code_of(verified)} == {(400, "user_banned")}
        assert await kept(stage.node, ana.id) == [0, 0, 0]


async def test_provider_is_not_linked_to_a_suspended_account_by_its_address(
    stage: Stage,
) -> None:
    """Whoever has the address there is not let in, and leaves nothing to be let in by later."""
    ana = await join(stage.node)
    await proven(stage.node, ana.email)
    stage.acme.person = person(new_name(), email=ana.email)
    await suspended(stage, ana)
    for asked in ({}, pkce(VERIFIER)):
        page = await Browser(stage.http).go(authorize_url(stage.node, **asked))
        assert page.query["error_code"] == "user_banned"
    assert await kept(stage.node, ana.id) == [0, 0, 0]


async def on_the_way_to_link(stage: Stage, ana: Member) -> tuple[Browser, Page]:
    """Begin to link a provider, up to where its browser is sent back from there."""
    stage.acme.person = person(new_name())
    asked = "/auth/v1/user/identities/authorize?provider=acme&skip_http_redirect=true"
    begun = (await ana.client.get(f"{asked}&redirect_to={APP}")).json["url"]
    browser, the_app = Browser(stage.http), {"referer": APP}
    callback = f"{stage.node.url}/auth/v1/callback"
    return browser, await browser.go(begun, stop_at=callback, headers=the_app)


async def kept(node: Node, user_id: str) -> list[int]:
    """Count the verified factors, passkeys and provider's identities of an account."""
    found = await node.services.db.fetch(
        AUTH,
        "select (select count(*) from chatkeep.factors where user_id = %s"
        "  and status = 'verified') as count"
        " union all select count(*) from chatkeep.webauthn_credentials where user_id = %s"
        " union all select count(*) from chatkeep.identities where user_id = %s"
        "  and provider <> 'email'",
        (user_id, user_id, user_id),
        row=Count,
    )
    return [one.count for one in found]
