"""Links and codes that go through a mailbox, and what nobody can do with somebody else's."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from chatkeep import accounts
from chatkeep.administration.accounts import LONGEST_BAN, Wanted, change_account
from chatkeep.db import AUTH
from chatkeep.limits import RATES, Rate
from tests.gotrue_people import (
    OURS_ALONE,
    PASSWORD,
    claims_of,
    code_of,
    new_address,
    refresh,
    sign_in,
    signed_in,
)
from tests.http.mailbox import (
    landed,
    mails_to,
    newest_to,
    open_and_press,
    path_of,
    press,
    secret_of,
)
from tests.serving import Node, until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client

APP = "http://localhost:3000/welcome"
VERIFIER = "v" * 64
CHALLENGE = {
    "code_challenge": urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest())
    .rstrip(b"=")
    .decode(),
    "code_challenge_method": "s256",
}
NODE_SETTINGS = {**OURS_ALONE, "MAILER_AUTOCONFIRM": "off"}


async def ask_to_sign_up(
    caller: Client, email: str, password: str = PASSWORD, **more: object
) -> Answer:
    """Sign up where that needs a confirmation."""
    body = {"email": email, "password": password, **more}
    answer = await caller.post(f"/auth/v1/signup?redirect_to={APP}", body)
    assert answer.status == 200, answer.text
    return answer


async def confirmed(node: Node, caller: Client, email: str | None = None) -> dict[str, Any]:
    """Sign up and confirm; return the session."""
    address = email or new_address()
    await ask_to_sign_up(caller, address)
    mail = await newest_to(node, address, "confirmation")
    answer = await caller.post(
        "/auth/v1/verify", {"type": "signup", "email": address, "token": mail.code}
    )
    assert answer.status == 200, answer.text
    session: dict[str, Any] = answer.json
    return session


# --- signing up ----------------------------------------------------------------------------------


async def test_sign_up_waits_for_its_confirmation(node: Node, caller: Client) -> None:
    """No tokens yet; the right password says so, a wrong one says nothing; the link signs in."""
    email = new_address()
    user = (await ask_to_sign_up(caller, email, data={"name": "Ana"})).json
    assert "access_token" not in user
    assert (user["email"], user["user_metadata"]) == (email, {"name": "Ana"})
    assert "confirmed_at" not in user
    assert code_of(await sign_in(caller, email)) == (400, "email_not_confirmed")
    assert code_of(await sign_in(caller, email, "wrong")) == (400, "invalid_credentials")
    mail = await newest_to(node, email, "confirmation")
    assert str(mail.link).startswith(f"{node.services.settings.base_url}/auth/v1/verify?")
    address, query, said = landed(await open_and_press(caller, mail.link))
    assert (address, query, said["type"]) == (APP, {}, "signup")
    assert claims_of(said["access_token"])["amr"][0]["method"] == "otp"
    now = (await signed_in(caller, said).get("/auth/v1/user")).json
    assert now["id"] == user["id"]
    assert now["email_confirmed_at"]
    assert now["identities"][0]["identity_data"]["email_verified"] is True
    assert (await refresh(caller, said["refresh_token"])).status == 200
    assert (await sign_in(caller, email)).status == 200


async def test_sign_up_is_confirmed_by_its_code(node: Node, caller: Client) -> None:
    """The six digits do as well, under each name that clients use; once."""
    for kind in ("signup", "email"):
        email = new_address()
        await ask_to_sign_up(caller, email)
        code = (await newest_to(node, email, "confirmation")).code
        body = {"type": kind, "email": email.upper(), "token": code}
        assert (await caller.post("/auth/v1/verify", body)).json["user"]["email"] == email
        assert code_of(await caller.post("/auth/v1/verify", body)) == (403, "otp_expired")


async def test_taken_address_signs_up_alike(node: Node, caller: Client) -> None:
    """Whoever signs up with somebody's address sees what everybody sees; its owner gets a mail."""
    taken, free = new_address(), new_address()
    theirs = (await confirmed(node, caller, taken))["user"]
    answers = [await ask_to_sign_up(caller, one, "another long one") for one in (taken, free)]
    first, second = (one.json for one in answers)
    assert first["id"] != theirs["id"]
    assert [set(one) for one in (first, second)] == [set(first)] * 2
    assert [len(one["identities"]) for one in (first, second)] == [1, 1]
    assert set(first["identities"][0]) == set(second["identities"][0])
    masks = {"id", "email", "identities", "created_at", "updated_at", "confirmation_sent_at"}
    same = [{k: v for k, v in one.items() if k not in masks} for one in (first, second)]
    assert same[0] == same[1]
    assert [sorted(one.headers) for one in answers] == [sorted(answers[0].headers)] * 2
    assert (await newest_to(node, taken, "magic_link")).link
    assert (await sign_in(caller, taken)).status == 200
    assert code_of(await sign_in(caller, taken, "another long one")) == (400, "invalid_credentials")


async def test_sign_up_of_a_stranger_yields_to_the_next(node: Node, caller: Client) -> None:
    """Who signs up with somebody's address first has no password to it once they confirm."""
    email = new_address()
    await ask_to_sign_up(caller, email, "the stranger's one")
    stale = await newest_to(node, email, "confirmation")
    owner = (await ask_to_sign_up(caller, email)).json
    assert code_of(await sign_in(caller, email, "the stranger's one")) == (
        *(400, "invalid_credentials"),
    )
    _, _, said = landed(await open_and_press(caller, stale.link))
    assert said["error_code"] == "otp_expired"
    fresh = await newest_to(node, email, "confirmation")
    _, _, said = landed(await open_and_press(caller, fresh.link))
    assert claims_of(said["access_token"])["sub"] == owner["id"]
    for password in ("the stranger's one", PASSWORD):  # nobody knows whose either was
        assert code_of(await sign_in(caller, email, password)) == (400, "invalid_credentials")
    new = await signed_in(caller, said).call("PUT", "/auth/v1/user", json={"password": PASSWORD})
    assert new.status == 200, new.text
    assert (await sign_in(caller, email)).json["user"]["id"] == owner["id"]


@pytest.mark.parametrize("way", ["signup", "otp"])
async def test_stranger_signs_up_while_the_reader_goes_to_the_mailbox(
    node: Node, caller: Client, way: str
) -> None:
    """The mail that is opened is the stranger's; their password is not confirmed by it."""
    email = new_address()
    if way == "signup":
        await ask_to_sign_up(caller, email)
    else:
        await caller.post("/auth/v1/otp", {"email": email})
    await ask_to_sign_up(caller, email, "the stranger's one")
    mail = await newest_to(node, email, "confirmation")
    _, _, said = landed(await open_and_press(caller, mail.link))
    assert (await signed_in(caller, said).get("/auth/v1/user")).json["email"] == email
    answer = await sign_in(caller, email, "the stranger's one")
    assert code_of(answer) == (400, "invalid_credentials")


async def test_password_that_was_chosen_twice_is_ones_own(
    node: Node, caller: Client, database: MigratedDatabase
) -> None:
    """Pressed twice it is good; and another one is, when the first mail has expired."""
    for second in (PASSWORD, "another long one"):
        email = new_address()
        await ask_to_sign_up(caller, email)
        if second != PASSWORD:
            database.operate(
                "update chatkeep.users set confirmation_sent_at = now() - interval '2 days'"
                " where email = %s",
                email,
            )
        await ask_to_sign_up(caller, email, second)
        mail = await newest_to(node, email, "confirmation")
        landed(await open_and_press(caller, mail.link))
        assert (await sign_in(caller, email, second)).status == 200


async def test_password_from_before_the_proof_is_dropped(node: Node, caller: Client) -> None:
    """Whoever comes by a link of their own asking does not inherit a stranger's password."""
    email = new_address()
    await ask_to_sign_up(caller, email, "the stranger's one")
    await caller.post("/auth/v1/otp", {"email": email})
    mail = await newest_to(node, email, "magic_link")
    assert landed(await open_and_press(caller, mail.link))[2]["access_token"]
    answer = await sign_in(caller, email, "the stranger's one")
    assert code_of(answer) == (400, "invalid_credentials")


async def test_confirmation_is_sent_again(node: Node, caller: Client) -> None:
    """To who waits for one, and to nobody else; everybody hears the same."""
    email, done = new_address(), new_address()
    await ask_to_sign_up(caller, email)
    await confirmed(node, caller, done)
    old = await newest_to(node, email, "confirmation")
    before = len(await mails_to(node, done))
    bodies = set()
    for address in (email, done, new_address()):
        answer = await caller.post("/auth/v1/resend", {"type": "signup", "email": address})
        bodies.add((answer.status, answer.body))
    assert bodies == {(200, b"{}")}
    assert len(await mails_to(node, done)) == before
    new = await newest_to(node, email, "confirmation")
    assert new.code != old.code or new.link != old.link
    body = {"type": "signup", "token_hash": secret_of(new.link)}
    assert (await caller.post("/auth/v1/verify", body)).status == 200


# --- links ---------------------------------------------------------------------------------------


async def test_scanners_do_not_use_links_up(node: Node, caller: Client) -> None:
    """Whatever opens the link sees a page; the person's press still signs in, and only once."""
    email = new_address()
    await caller.post(f"/auth/v1/otp?redirect_to={APP}", {"email": email})
    mail = await newest_to(node, email, "confirmation")
    for _ in range(3):
        page = await caller.get(path_of(mail.link))
        assert (page.status, page.headers["cache-control"]) == (200, "no-store")
        assert "access_token" not in page.text
        assert "localhost:3000" in page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    _, _, said = landed(await open_and_press(caller, mail.link))
    assert said["access_token"]
    _, _, again = landed(await open_and_press(caller, mail.link))
    assert again["error_code"] == "otp_expired"
    assert "access_token" not in again


async def test_page_shows_nothing_that_was_sent_to_it(node: Node, caller: Client) -> None:
    """Markup in a link's parameters stays text, and a target that is not permitted is not named."""
    email = new_address()
    await caller.post("/auth/v1/otp", {"email": email})
    link = secret_of((await newest_to(node, email, "confirmation")).link)
    wanted = "https://evil.example/%22%3E%3Cscript%3Ealert(1)%3C/script%3E"
    page = await caller.get(f"/auth/v1/verify?token={link}&type=email&redirect_to={wanted}")
    assert (page.status, "evil" in page.text, "<script" in page.text) == (200, False, False)
    wanted = "http://localhost:3000/'%3E%3Cscript%3Ealert(1)"
    page = await caller.get(f"/auth/v1/verify?token={link}&type=email&redirect_to={wanted}")
    assert (page.status, "<script" in page.text) == (200, False)


async def test_form_of_another_site_signs_nobody_in(node: Node, caller: Client) -> None:
    """A page that sends its visitor's browser here with its own link gets a refusal."""
    email = new_address()
    await caller.post("/auth/v1/otp", {"email": email})
    mail = await newest_to(node, email, "confirmation")
    fields = {"type": "magiclink", "token": secret_of(mail.link)}
    for site in ("cross-site", "same-site", "none", ""):
        assert (await press(caller, fields, sec_fetch_site=site)).status == 403
    own = node.url
    assert (
        await press(caller, fields, sec_fetch_site="", origin="https://evil.example")
    ).status == 403
    assert (await press(caller, fields, sec_fetch_site="", origin=own)).status == 303


async def test_link_may_be_used_at_once_where_the_operator_says_so(start: StartNode) -> None:
    """With the page switched off, opening the link is using it, as at Supabase Auth."""
    direct = await start(MAIL_LINKS_ASK="off", MAILER_AUTOCONFIRM="off", **OURS_ALONE)
    email, caller = new_address(), direct.nobody()
    await caller.post(f"/auth/v1/otp?redirect_to={APP}", {"email": email})
    link = path_of((await newest_to(direct, email, "confirmation")).link)
    address, _, said = landed(await caller.get(link))
    assert (address, said["token_type"]) == (APP, "bearer")
    _, _, said = landed(await caller.get(link))
    assert (said["error"], said["error_code"]) == ("access_denied", "otp_expired")


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "x%0d%0ay",
    ],
)
async def test_link_leads_to_no_strangers_site(node: Node, caller: Client, wanted: str) -> None:
    """Tokens go to this server's own page when the asked-for address is nobody's of ours."""
    email = new_address()
    await caller.post(f"/auth/v1/otp?redirect_to={wanted}", {"email": email})
    mail = await newest_to(node, email, "confirmation")
    address, _, said = landed(await open_and_press(caller, mail.link))
    assert address == f"{node.services.settings.base_url}/"
    assert said["access_token"]
    bad = await caller.get(f"/auth/v1/verify?token=x&type=magiclink&redirect_to={wanted}")
    assert landed(bad)[0] == f"{node.services.settings.base_url}/"


async def test_link_is_good_for_its_own_purpose(node: Node, caller: Client) -> None:
    """A link to sign in recovers nothing, and none confirms what it was not sent for."""
    session = await confirmed(node, caller)
    email = session["user"]["email"]
    await caller.post("/auth/v1/otp", {"email": email})
    link = secret_of((await newest_to(node, email, "magic_link")).link)
    for kind in ("recovery", "email_change", "invite"):
        body = {"type": kind, "token_hash": link}
        assert code_of(await caller.post("/auth/v1/verify", body)) == (403, "otp_expired")
    for kind in ("", "reauthentication", "nonsense"):
        body = {"type": kind, "token_hash": link}
        assert code_of(await caller.post("/auth/v1/verify", body)) == (400, "validation_failed")
    body = {"type": "magiclink", "token_hash": link}
    assert (await caller.post("/auth/v1/verify", body)).status == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "validation_failed")),
        ({"type": "email", "token": "123456"}, (400, "validation_failed")),
        ({"type": "email", "email": "a@example.com"}, (400, "validation_failed")),
        (
            {"type": "email", "token_hash": "x", "email": "a@example.com"},
            (400, "validation_failed"),
        ),
        ({"type": "email", "token_hash": "x"}, (403, "otp_expired")),
        ({"type": "email", "token_hash": "x" * 100_000}, (403, "otp_expired")),
        ({"type": "email", "token": "123456", "email": "a@example.com"}, (403, "otp_expired")),
        ({"type": "email", "token": "\x00", "email": "a@example.com"}, (403, "otp_expired")),
        ({"type": "email", "token": "1", "email": "nobody"}, (400, "email_address_invalid")),
        ({"type": "sms", "token": "1", "phone": "+15550100"}, (400, "phone_provider_disabled")),
    ],
)
async def test_bad_proof_has_its_code(
    caller: Client, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each kind of bad proof has its code."""
    assert code_of(await caller.post("/auth/v1/verify", body)) == expected


async def test_expired_link_is_refused(
    node: Node, caller: Client, database: MigratedDatabase
) -> None:
    """After its time neither the page nor the form works."""
    email = new_address()
    await caller.post("/auth/v1/otp", {"email": email})
    mail = await newest_to(node, email, "confirmation")
    database.operate(
        "update chatkeep.one_time_tokens set expires_at = now() where email = %s", email
    )
    _, _, said = landed(await caller.get(path_of(mail.link)))
    assert said["error_code"] == "otp_expired"
    fields = {"type": "magiclink", "token": secret_of(mail.link)}
    assert landed(await press(caller, fields))[2]["error_code"] == "otp_expired"


# --- signing in by mail, PKCE --------------------------------------------------------------------


async def test_code_signs_in_who_has_an_account_and_who_has_none(
    node: Node, caller: Client
) -> None:
    """The first time makes the account, the next finds it again."""
    email = new_address()
    people = []
    for kind in ("confirmation", "magic_link"):
        await caller.post("/auth/v1/otp", {"email": email, "data": {"name": "Bo"}})
        mail = await newest_to(node, email, kind)
        body = {"type": "email", "email": email, "token": mail.code}
        people.append((await caller.post("/auth/v1/verify", body)).json["user"])
    assert people[0]["id"] == people[1]["id"]
    assert people[0]["user_metadata"] == {"name": "Bo"}
    assert code_of(await sign_in(caller, email, "")) == (400, "invalid_credentials")


async def test_nobody_learns_who_has_an_account(
    node: Node, caller: Client, start: StartNode
) -> None:
    """Every request for a mail has one answer, also where it makes no account."""
    known = (await confirmed(node, caller))["user"]["email"]
    closed = await start(MAILER_AUTOCONFIRM="off", SIGN_UP="off", **OURS_ALONE)
    for at in (caller, closed.nobody()):
        for path, more in (
            ("otp", {"create_user": False}),
            ("magiclink", {"create_user": False}),
            ("recover", {}),
            ("resend", {"type": "signup"}),
            ("resend", {"type": "email_change"}),
        ):
            answers = [
                await at.post(f"/auth/v1/{path}", {"email": one, **more})
                for one in (known, new_address())
            ]
            assert {(one.status, one.body) for one in answers} == {(200, b"{}")}
            assert len({tuple(sorted(one.headers)) for one in answers}) == 1
    unknown = new_address()
    assert (await closed.nobody().post("/auth/v1/otp", {"email": unknown})).body == b"{}"
    assert await mails_to(node, unknown) == []


async def test_pkce_flow_ends_with_a_code_instead_of_tokens(node: Node, caller: Client) -> None:
    """Sign-up, sign-in by mail and recovery all lead back with a code for their verifier alone."""
    email = new_address()
    await ask_to_sign_up(caller, email, **CHALLENGE)
    for path, kind in ((None, "confirmation"), ("otp", "magic_link"), ("recover", "recovery")):
        if path is not None:
            await caller.post(f"/auth/v1/{path}?redirect_to={APP}", {"email": email, **CHALLENGE})
        mail = await newest_to(node, email, kind)
        assert secret_of(mail.link).startswith("pkce_")
        address, query, said = landed(await open_and_press(caller, mail.link))
        assert (address, said) == (APP, {})
        body = {"auth_code": query["code"], "code_verifier": VERIFIER}
        session = await caller.post("/auth/v1/token?grant_type=pkce", body)
        assert session.json["user"]["email"] == email
        again = await caller.post("/auth/v1/token?grant_type=pkce", body)
        assert code_of(again) == (404, "flow_state_not_found")
    _, query, said = landed(await caller.get("/auth/v1/verify?token=pkce_x&type=magiclink"))
    assert query["error_code"] == said["error_code"] == "otp_expired"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "validation_failed")),
        ({"auth_code": "x"}, (400, "validation_failed")),
        ({"auth_code": "", "code_verifier": "y"}, (400, "validation_failed")),
        ({"auth_code": "x" * 100_000, "code_verifier": "y"}, (404, "flow_state_not_found")),
        ({"auth_code": 7, "code_verifier": "y"}, (400, "validation_failed")),
    ],
)
async def test_bad_code_exchange_has_its_code(
    caller: Client, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each kind of bad exchange has its code."""
    assert code_of(await caller.post("/auth/v1/token?grant_type=pkce", body)) == expected


async def test_wrong_verifier_is_refused(node: Node, caller: Client) -> None:
    """A code seen on its way is worth nothing."""
    email = new_address()
    await caller.post("/auth/v1/otp", {"email": email, **CHALLENGE})
    link = (await newest_to(node, email, "confirmation")).link
    _, query, _ = landed(await open_and_press(caller, link))
    body = {"auth_code": query["code"], "code_verifier": "w" * 64}
    answer = await caller.post("/auth/v1/token?grant_type=pkce", body)
    assert code_of(answer) == (400, "bad_code_verifier")


# --- a lost password -----------------------------------------------------------------------------


async def test_lost_password_is_replaced_and_everything_else_ends(
    node: Node, caller: Client
) -> None:
    """The link signs in, a new password needs no old one, other sessions and mails are dead."""
    session = await confirmed(node, caller)
    email = session["user"]["email"]
    await caller.post("/auth/v1/otp", {"email": email})
    other = await newest_to(node, email, "magic_link")
    await caller.post("/auth/v1/recover", {"email": email})
    mail = await newest_to(node, email, "recovery")
    _, _, said = landed(await open_and_press(caller, mail.link))
    assert said["type"] == "recovery"
    assert claims_of(said["access_token"])["amr"][0]["method"] == "recovery"
    await caller.post("/auth/v1/recover", {"email": email, **CHALLENGE})
    again = await newest_to(node, email, "recovery")
    here = signed_in(caller, said)
    changed = await here.call("PUT", "/auth/v1/user", json={"password": "a new long one"})
    assert changed.status == 200
    assert code_of(await signed_in(caller, session).get("/auth/v1/user"))[1] == "session_not_found"
    for dead, kind in ((other, "magiclink"), (again, "recovery"), (mail, "recovery")):
        body = {"type": kind, "token_hash": secret_of(dead.link)}
        assert code_of(await caller.post("/auth/v1/verify", body)) == (403, "otp_expired")
        body = {"type": kind, "email": email, "token": str(dead.code)}
        assert code_of(await caller.post("/auth/v1/verify", body)) == (403, "otp_expired")
    assert (await newest_to(node, email, "password_changed")).link is None
    assert (await sign_in(caller, email, "a new long one")).status == 200


@pytest.mark.parametrize("flow", ["link", "code of a flow"])
@pytest.mark.parametrize("first", ["shown", "changed"])
async def test_proof_and_change_of_password_cannot_both_win(
    node: Node, caller: Client, database: MigratedDatabase, first: str, flow: str
) -> None:
    """Used at the moment of the change, it leaves no session behind; neither blocks the other."""
    session = await confirmed(node, caller)
    email, user_id = session["user"]["email"], session["user"]["id"]
    pkce = CHALLENGE if flow != "link" else {}
    await caller.post("/auth/v1/otp", {"email": email, **pkce})
    link = (await newest_to(node, email, "magic_link")).link
    path, proof = "verify", {"type": "magiclink", "token_hash": secret_of(link)}
    if pkce:
        _, query, _ = landed(await open_and_press(caller, link))
        path = "token?grant_type=pkce"
        proof = {"auth_code": query["code"], "code_verifier": VERIFIER}
    new = {"password": "a new long one"}
    calls = {
        "shown": lambda: caller.post(f"/auth/v1/{path}", proof),
        "changed": lambda: signed_in(caller, session).call("PUT", "/auth/v1/user", json=new),
    }
    order = [first, *(calls.keys() - {first})]
    answers: dict[str, asyncio.Task[Answer]] = {}
    with psycopg.connect(database.admin_url) as holding:
        holding.execute("select from chatkeep.users where id = %s for update", [user_id])
        for name in order:
            answers[name] = asyncio.create_task(calls[name]())
            await until(lambda: database.waiting_for_locks() >= len(answers))
    shown, changed = await answers["shown"], await answers["changed"]
    assert changed.status == 200
    if first == "shown":
        there = await signed_in(caller, shown.json).get("/auth/v1/user")
        assert code_of(there) == (403, "session_not_found")
    else:
        assert shown.status in {403, 404}
        assert code_of(shown)[1] in {"otp_expired", "flow_state_not_found"}


# --- a new address -------------------------------------------------------------------------------


async def ask_for(here: Client, email: str) -> dict[str, Any]:
    """Ask for another address; return the person."""
    path = f"/auth/v1/user?redirect_to={APP}"
    answer = await here.call("PUT", path, json={"email": email})
    assert answer.status == 200, answer.text
    user: dict[str, Any] = answer.json
    return user


async def test_new_address_needs_both_mailboxes(node: Node, caller: Client) -> None:
    """Either half alone changes nothing, in either order; then the old one is told."""
    for first, second in (("new", "current"), ("current", "new")):
        session = await confirmed(node, caller)
        old, new = session["user"]["email"], new_address()
        user = await ask_for(signed_in(caller, session), new)
        assert (user["email"], user["new_email"]) == (old, new)
        boxes = {"new": new, "current": old}
        mails = {
            half: await newest_to(node, box, f"email_change_{half}") for half, box in boxes.items()
        }
        address, _, said = landed(await open_and_press(caller, mails[first].link))
        assert (address, "access_token" in said) == (APP, False)
        assert said["message"].startswith("Confirmation link accepted")
        assert (await signed_in(caller, session).get("/auth/v1/user")).json["email"] == old
        assert code_of(await sign_in(caller, new)) == (400, "invalid_credentials")
        _, _, said = landed(await open_and_press(caller, mails[second].link))
        assert claims_of(said["access_token"])["email"] == new
        assert (await sign_in(caller, new)).status == 200
        assert code_of(await sign_in(caller, old)) == (400, "invalid_credentials")
        assert (await newest_to(node, old, "email_changed")).new_email == new
        now = (await signed_in(caller, session).get("/auth/v1/user")).json
        assert "new_email" not in now
        assert now["identities"][0]["identity_data"] == {
            **now["identities"][0]["identity_data"],
            "email": new,
            "email_verified": True,
        }


async def test_new_address_by_its_codes(node: Node, caller: Client) -> None:
    """The first half answers the person, the second a session."""
    session = await confirmed(node, caller)
    old, new = session["user"]["email"], new_address()
    await ask_for(signed_in(caller, session), new)
    answers = []
    for box, kind in ((old, "email_change_current"), (new, "email_change_new")):
        code = (await newest_to(node, box, kind)).code
        body = {"type": "email_change", "email": box, "token": code}
        answers.append((await caller.post("/auth/v1/verify", body)).json)
    assert (answers[0]["email"], answers[0]["new_email"]) == (old, new)
    assert answers[0]["msg"]
    assert answers[1]["user"]["email"] == new


async def test_new_address_is_asked_for_again(node: Node, caller: Client) -> None:
    """The mails come again for what is open; asking for another address makes both worthless."""
    session = await confirmed(node, caller)
    old, wrong, right = session["user"]["email"], new_address(), new_address()
    here = signed_in(caller, session)
    await ask_for(here, wrong)
    stale = await newest_to(node, old, "email_change_current")
    await ask_for(here, right)
    body = {"type": "email_change", "token_hash": secret_of(stale.link)}
    assert code_of(await caller.post("/auth/v1/verify", body)) == (403, "otp_expired")
    landed(await open_and_press(caller, (await newest_to(node, right, "email_change_new")).link))
    told = len(await mails_to(node, right)), len(await mails_to(node, old))
    await caller.post("/auth/v1/resend", {"type": "email_change", "email": old})
    assert (len(await mails_to(node, right)), len(await mails_to(node, old))) == (
        *(told[0], told[1] + 1),
    )
    last = await newest_to(node, old, "email_change_current")
    assert landed(await open_and_press(caller, last.link))[2]["access_token"]
    assert (await here.get("/auth/v1/user")).json["email"] == right


async def test_address_is_whose_it_is_first(node: Node, caller: Client) -> None:
    """A taken one is refused at once, and one that is taken meanwhile at the end."""
    session, other = await confirmed(node, caller), await confirmed(node, caller)
    here, wanted = signed_in(caller, session), new_address()
    taken = await here.call("PUT", "/auth/v1/user", json={"email": other["user"]["email"]})
    assert code_of(taken) == (422, "email_exists")
    await ask_for(here, wanted)
    current = await newest_to(node, session["user"]["email"], "email_change_current")
    new = await newest_to(node, wanted, "email_change_new")
    landed(await open_and_press(caller, current.link))
    await confirmed(node, caller, wanted)
    body = {"type": "email_change", "token_hash": secret_of(new.link)}
    assert code_of(await caller.post("/auth/v1/verify", body)) == (422, "email_exists")
    assert (await here.get("/auth/v1/user")).json["email"] == session["user"]["email"]


async def test_two_confirm_the_same_address_at_once(node: Node, caller: Client) -> None:
    """One of them has it then, and the other is told; whichever way the link goes."""
    for _ in range(3):
        wanted, links = new_address(), []
        for _ in range(2):
            session = await confirmed(node, caller)
            await ask_for(signed_in(caller, session), wanted)
            links.append(secret_of((await newest_to(node, wanted, "email_change_new")).link))
            current = await newest_to(node, session["user"]["email"], "email_change_current")
            landed(await open_and_press(caller, current.link))
        answers = await asyncio.gather(
            *(
                caller.post("/auth/v1/verify", {"type": "email_change", "token_hash": one})
                for one in links
            )
        )
        done, refused = sorted(answers, key=lambda one: one.status)
        assert done.status == 200
        assert code_of(refused) == (422, "email_exists")


async def test_one_mailbox_where_the_operator_says_so(start: StartNode) -> None:
    """Without the second confirmation the new mailbox decides."""
    lax = await start(MAILER_AUTOCONFIRM="off", SECURE_EMAIL_CHANGE="off", **OURS_ALONE)
    caller = lax.nobody()
    session = await confirmed(lax, caller)
    new = new_address()
    await ask_for(signed_in(caller, session), new)
    mail = await newest_to(lax, new, "email_change_new")
    assert landed(await open_and_press(caller, mail.link))[2]["access_token"]
    kinds = {one.kind for one in await mails_to(lax, session["user"]["email"])}
    assert "email_change_current" not in kinds


async def test_mail_to_the_old_address_dies_with_it(node: Node, caller: Client) -> None:
    """Whoever still reads the old mailbox cannot come back by what was sent there."""
    session = await confirmed(node, caller)
    old, new = session["user"]["email"], new_address()
    await caller.post("/auth/v1/recover", {"email": old})
    recovery = await newest_to(node, old, "recovery")
    await ask_for(signed_in(caller, session), new)
    for box, kind in ((old, "email_change_current"), (new, "email_change_new")):
        landed(await open_and_press(caller, (await newest_to(node, box, kind)).link))
    body = {"type": "recovery", "token_hash": secret_of(recovery.link)}
    assert code_of(await caller.post("/auth/v1/verify", body)) == (403, "otp_expired")


# --- changing the password -----------------------------------------------------------------------


async def test_old_sign_in_changes_the_password_with_a_nonce(
    start: StartNode, database: MigratedDatabase
) -> None:
    """After a day a code from a mail is asked for; it is the caller's own, and good once."""
    strict = await start(MAILER_AUTOCONFIRM="off", PASSWORD_REAUTHENTICATION="on", **OURS_ALONE)
    caller = strict.nobody()
    session, stranger = await confirmed(strict, caller), await confirmed(strict, caller)
    email, here = session["user"]["email"], signed_in(caller, session)

    async def change(nonce: str | None, password: str = "a new long one") -> Answer:
        body = {"password": password, **({"nonce": nonce} if nonce else {})}
        return await here.call("PUT", "/auth/v1/user", json=body)

    assert (await change(None, "while it is fresh")).status == 200
    database.operate("update user_sessions set created_at = now() - interval '25 hours'")
    assert code_of(await change(None)) == (400, "reauthentication_needed")
    assert code_of(await change("123")) == (422, "reauthentication_not_valid")
    assert (await here.get("/auth/v1/reauthenticate")).body == b"{}"
    await signed_in(caller, stranger).get("/auth/v1/reauthenticate")
    theirs = await newest_to(strict, stranger["user"]["email"], "reauthentication")
    mine = await newest_to(strict, email, "reauthentication")
    assert mine.link is None
    if theirs.code != mine.code:
        assert code_of(await change(theirs.code)) == (422, "reauthentication_not_valid")
    assert (await change(mine.code)).status == 200
    assert code_of(await change(mine.code, "yet another one"))[1] == "reauthentication_not_valid"


async def test_current_password_beside_the_new_one(start: StartNode) -> None:
    """Asked for where the operator says so, and not of who comes by a recovery mail."""
    strict = await start(MAILER_AUTOCONFIRM="off", PASSWORD_CURRENT_REQUIRED="on", **OURS_ALONE)
    caller = strict.nobody()
    session = await confirmed(strict, caller)
    email, here = session["user"]["email"], signed_in(caller, session)
    put = "/auth/v1/user"
    new = {"password": "a new long one"}
    assert code_of(await here.call("PUT", put, json=new)) == (400, "current_password_required")
    wrong = {**new, "current_password": "wrong"}
    assert code_of(await here.call("PUT", put, json=wrong)) == (400, "current_password_invalid")
    right = {**new, "current_password": PASSWORD}
    assert (await here.call("PUT", put, json=right)).status == 200
    await caller.post("/auth/v1/recover", {"email": email})
    mail = await newest_to(strict, email, "recovery")
    _, _, said = landed(await open_and_press(caller, mail.link))
    lost = {"password": "the third long one"}
    assert (await signed_in(caller, said).call("PUT", put, json=lost)).status == 200


async def test_wrong_current_password_is_refused_unasked(node: Node, caller: Client) -> None:
    """Who sends one has it checked."""
    here = signed_in(caller, await confirmed(node, caller))
    body = {"password": "a new long one", "current_password": "wrong"}
    answer = await here.call("PUT", "/auth/v1/user", json=body)
    assert code_of(answer) == (400, "current_password_invalid")


# --- how often, and where there is no mail -------------------------------------------------------


async def test_mailbox_is_not_flooded_and_the_limit_tells_nothing(
    start: StartNode, database: MigratedDatabase
) -> None:
    """One mail a minute to an address, by whichever way it is asked for, known or not."""
    limiting = await start(MAILER_AUTOCONFIRM="off", RATE_LIMITS="on", **OURS_ALONE)
    caller = limiting.nobody()
    known, unknown = new_address(), new_address()
    await ask_to_sign_up(caller, known)
    await caller.post("/auth/v1/recover", {"email": unknown})
    for address in (known, unknown, known.upper()):
        answers = [
            await caller.post(f"/auth/v1/{path}", {"email": address, **more})
            for path, more in (
                ("otp", {}),
                ("recover", {}),
                ("resend", {"type": "signup"}),
                ("signup", {"password": PASSWORD}),
            )
        ]
        assert {code_of(one) for one in answers} == {(429, "over_email_send_rate_limit")}
        assert all(0 < int(one.headers["retry-after"]) <= 60 for one in answers)
    assert len(await mails_to(limiting, known)) == 1


async def test_mailbox_with_many_addresses_is_not_flooded(start: StartNode) -> None:
    """Those with `+` share an allowance, by whichever way and whether or not anybody has them."""
    limiting = await start(MAILER_AUTOCONFIRM="off", RATE_LIMITS="on", **OURS_ALONE)
    caller, mailbox, unknown = limiting.nobody(), new_address(), new_address()
    await ask_to_sign_up(caller, mailbox)
    ways: list[tuple[str, dict[str, Any]]] = [
        ("otp", {}),
        ("recover", {}),
        ("resend", {"type": "signup"}),
        ("signup", {"password": PASSWORD}),
    ]
    at_most = RATES["account_mailbox"].burst
    for address, already in ((mailbox, 1), (unknown, 0)):
        name, _, domain = address.partition("@")
        answers = [
            await caller.post(
                f"/auth/v1/{path}", {"email": f"{name}+{number}@{domain}".title(), **more}
            )
            for number, (path, more) in enumerate(islice(cycle(ways), at_most + 4))
        ]
        assert [one.status for one in answers] == [
            *[200] * (at_most - already),
            *[429] * (4 + already),
        ]
        assert code_of(answers[-1]) == (429, "over_email_send_rate_limit")
    plain = [await caller.post("/auth/v1/otp", {"email": one}) for one in (mailbox, unknown)]
    assert [one.status for one in plain] == [429, 429]


async def test_wished_for_mailbox_is_not_flooded_either(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking again for a change of address is counted at the new mailbox, and told nobody."""
    monkeypatch.setitem(RATES, "mail_pause", Rate(100, 60))
    monkeypatch.setitem(RATES, "account_mail", Rate(2, 3600))
    limiting = await start(MAILER_AUTOCONFIRM="off", RATE_LIMITS="on", **OURS_ALONE)
    caller, wanted = limiting.nobody(), new_address()
    session = await confirmed(limiting, caller)
    old = session["user"]["email"]
    await ask_for(signed_in(caller, session), wanted)
    body = {"type": "email_change", "email": old}
    # Two more, as they are known to the network.
    statuses = [(await caller.post("/auth/v1/resend", body)).status for _ in range(2)]
    assert statuses == [200, 200]
    assert len(await mails_to(limiting, wanted)) == 2
    kinds = [one.kind for one in await mails_to(limiting, old)]
    assert kinds.count("email_change_current") == 3


async def test_code_is_not_guessed_from_many_mails(start: StartNode) -> None:
    """However often a new code is asked for, only so many guesses are taken at an account."""
    limiting = await start(MAILER_AUTOCONFIRM="off", RATE_LIMITS="on", **OURS_ALONE)
    caller, email = limiting.nobody(), new_address()
    await ask_to_sign_up(caller, email)
    body = {"type": "email", "email": email, "token": "wrong!"}
    answers = [code_of(await caller.post("/auth/v1/verify", body)) for _ in range(12)]
    assert answers[0] == (403, "otp_expired")
    assert answers[-1] == (429, "over_request_rate_limit")
    link = (await newest_to(limiting, email, "confirmation")).link
    assert landed(await open_and_press(caller, link))[2]["access_token"]


async def test_phone_numbers_are_refused_by_name(caller: Client) -> None:
    """No text message is ever sent, and no route pretends."""
    for path, body in (
        ("otp", {"phone": "+15550100"}),
        ("resend", {"type": "sms", "phone": "+15550100"}),
        ("resend", {"type": "phone_change", "phone": "+15550100"}),
    ):
        answer = await caller.post(f"/auth/v1/{path}", body)
        assert code_of(answer) == (400, "phone_provider_disabled")
    for path, more in (("otp", {}), ("recover", {}), ("resend", {"type": "signup"})):
        for email in (None, ""):
            answer = await caller.post(f"/auth/v1/{path}", {"email": email, **more})
            assert code_of(answer) == (400, "validation_failed")
        answer = await caller.post(f"/auth/v1/{path}", {"email": "nobody", **more})
        assert code_of(answer) == (400, "email_address_invalid")
    answer = await caller.post("/auth/v1/resend", {"type": "x", "email": "a@example.com"})
    assert code_of(answer) == (400, "validation_failed")


async def test_settings_say_that_addresses_are_confirmed(caller: Client) -> None:
    """Clients can tell beforehand."""
    assert (await caller.get("/auth/v1/settings")).json["mailer_autoconfirm"] is False


async def test_nothing_secret_of_a_mail_is_in_the_database_or_the_log(
    node: Node, caller: Client, database: MigratedDatabase
) -> None:
    """The queue is sealed, tokens are hashed, and the audit log names neither."""
    email = new_address()
    await ask_to_sign_up(caller, email)
    mail = await newest_to(node, email, "confirmation")
    for table in (
        "chatkeep.one_time_tokens",
        "chatkeep.audit_log",
        "chatkeep.users",
        "chatkeep_queue.procrastinate_jobs",
    ):
        rows = database.operate(f"select t::text from {table} t")  # noqa: S608 -- from the list above
        assert not any(secret_of(mail.link) in row[0] for row in rows), table


async def test_suspended_account_does_not_yield_to_another_sign_up(
    node: Node, caller: Client
) -> None:
    """Whoever is suspended before they confirm is not let in by signing up again."""
    address = new_address()
    await ask_to_sign_up(caller, address)
    issuer = node.services.embedded
    (found,) = await issuer.db.fetch_all(AUTH, accounts.by_email(address))
    banned = Wanted(banned_for=LONGEST_BAN)
    await change_account(issuer, found[0].id, banned, actor="operator")
    await ask_to_sign_up(caller, address)
    mail = (await mails_to(node, address))[0]
    for shown in (
        {"type": "signup", "email": address, "token": mail.code},
        {"type": "signup", "token_hash": secret_of(mail.link)},
    ):
        answer = await caller.post("/auth/v1/verify", shown)
        assert code_of(answer)[1] in {"user_banned", "otp_expired"}
    (found,) = await issuer.db.fetch_all(AUTH, accounts.by_email(address))
    assert found[0].is_banned


@pytest.mark.parametrize("link", [True, False], ids=["link", "code"])
async def test_suspended_account_keeps_its_address(start: StartNode, *, link: bool) -> None:
    """A change of address that a thief began is not finished while the account is held."""
    lax = await start(MAILER_AUTOCONFIRM="off", SECURE_EMAIL_CHANGE="off", **OURS_ALONE)
    there = lax.nobody()
    session = await confirmed(lax, there)
    old, new = session["user"]["email"], new_address()
    wished = await signed_in(there, session).call("PUT", "/auth/v1/user", json={"email": new})
    assert wished.status == 200, wished.text
    mail = await newest_to(lax, new, "email_change_new")
    issuer, person = lax.services.embedded, UUID(session["user"]["id"])
    banned = Wanted(banned_for=LONGEST_BAN)
    await change_account(issuer, person, banned, actor="operator")
    if link:
        shown = await open_and_press(there, mail.link)
        assert landed(shown)[2]["error_code"] == "user_banned"
    else:
        body = {"type": "email_change", "email": new, "token": mail.code}
        assert code_of(await there.post("/auth/v1/verify", body)) == (400, "user_banned")
    assert (await accounts.get_user(issuer.db, person)).email == old
