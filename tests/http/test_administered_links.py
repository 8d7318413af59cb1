"""Invitations and links that servers hand on, and who they let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chatkeep import audit
from tests.gotrue_people import (
    OURS_ALONE,
    PASSWORD,
    code_of,
    new_address,
    sign_in,
    signed_in,
)
from tests.http.mailbox import landed, mails_to, newest_to, open_and_press

if TYPE_CHECKING:
    from tests.serving import Answer, Client, Node

LINK = "/auth/v1/admin/generate_link"
NODE_SETTINGS = {**OURS_ALONE, "MAILER_AUTOCONFIRM": "off"}


@pytest.fixture
def server(node: Node) -> Client:
    """Somebody who has the secret key."""
    return node.nobody(authorization=f"Bearer {node.services.embedded.supabase_keys.secret}")


async def confirmed(server: Client) -> dict[str, Any]:
    """Make an account whose address is confirmed."""
    body = {"email": new_address(), "password": PASSWORD, "email_confirm": True}
    user: dict[str, Any] = (await server.post("/auth/v1/admin/users", body)).json
    return user


async def make(server: Client, kind: str, **more: object) -> dict[str, Any]:
    """Have a link made."""
    answer = await server.post(LINK, {"type": kind, **more})
    assert answer.status == 200, answer.text
    link: dict[str, Any] = answer.json
    return link


async def verify(caller: Client, link: dict[str, Any]) -> Answer:
    """Show the link's secret as clients do."""
    kind = link["verification_type"].removesuffix("_current").removesuffix("_new")
    return await caller.post("/auth/v1/verify", {"type": kind, "token_hash": link["hashed_token"]})


async def test_invitation_is_mailed_and_lets_in(node: Node, server: Client, caller: Client) -> None:
    """Whoever opens it has the account, confirmed; a second one goes out until then."""
    email = new_address()
    answer = await server.post("/auth/v1/invite", {"email": email, "data": {"team": "blue"}})
    assert (answer.status, answer.json["user_metadata"]) == (200, {"team": "blue"})
    assert answer.json["invited_at"]
    assert "email_confirmed_at" not in answer.json
    again = await server.post("/auth/v1/invite", {"email": email.upper()})
    assert again.json["id"] == answer.json["id"]
    assert len(await mails_to(node, email)) == 2
    mail = await newest_to(node, email, "invitation")
    _, _, fragment = landed(await open_and_press(caller, mail.link))
    here = caller.but(authorization=f"Bearer {fragment['access_token']}")
    assert (await here.get("/auth/v1/user")).json["email_confirmed_at"]
    answer = await server.post("/auth/v1/invite", {"email": email})
    assert code_of(answer) == (422, "email_exists")


async def test_password_of_a_stranger_does_not_survive_an_invitation(
    node: Node, server: Client, caller: Client
) -> None:
    """Whoever signed up with the address before, and never confirmed it, gets nothing of it."""
    email = new_address()
    body = {"email": email, "password": "the stranger's own"}
    assert (await caller.post("/auth/v1/signup", body)).status == 200
    await server.post("/auth/v1/invite", {"email": email})
    mail = await newest_to(node, email, "invitation")
    _, _, fragment = landed(await open_and_press(caller, mail.link))
    assert fragment["access_token"]
    answer = await sign_in(caller, email, "the stranger's own")
    assert code_of(answer) == (400, "invalid_credentials")


async def test_stranger_cannot_slip_a_password_in_after_the_invitation(
    node: Node, server: Client, caller: Client
) -> None:
    """A sign-up with an invited address changes nothing about the account."""
    email = new_address()
    await server.post("/auth/v1/invite", {"email": email})
    body = {"email": email, "password": "the stranger's own"}
    await caller.post("/auth/v1/signup", body)
    mail = await newest_to(node, email, "invitation")
    _, _, fragment = landed(await open_and_press(caller, mail.link))
    assert fragment["access_token"]
    assert (await sign_in(caller, email, "the stranger's own")).status == 400


async def test_invitation_outlives_the_sign_ups_of_strangers_around_it(
    node: Node, server: Client, caller: Client
) -> None:
    """Who signs up again with an address that was invited since takes the account from nobody."""
    email = new_address()
    body = {"email": email, "password": "the stranger's own"}
    await caller.post("/auth/v1/signup", body)
    await server.post("/auth/v1/invite", {"email": email})
    mail = await newest_to(node, email, "invitation")
    await caller.post("/auth/v1/signup", body)
    _, _, fragment = landed(await open_and_press(caller, mail.link))
    assert fragment["access_token"]
    assert (await sign_in(caller, email, "the stranger's own")).status == 400


@pytest.mark.parametrize("kind", ["magiclink", "recovery"])
async def test_link_signs_in_once(server: Client, caller: Client, kind: str) -> None:
    """The person it was made for, once; it was mailed to nobody, and is in no log."""
    user = await confirmed(server)
    link = await make(server, kind, email=user["email"])
    assert (link["id"], link["verification_type"]) == (user["id"], kind)
    first = await verify(caller, link)
    assert (first.status, first.json["user"]["id"]) == (200, user["id"])
    assert code_of(await verify(caller, link)) == (403, "otp_expired")


async def test_link_is_opened_in_a_browser(node: Node, server: Client, caller: Client) -> None:
    """It leads where the server may send browsers, and nowhere else."""
    user = await confirmed(server)
    link = await make(server, "magiclink", email=user["email"])
    address, _, fragment = landed(await open_and_press(caller, link["action_link"]))
    assert address.startswith(node.services.settings.base_url)
    assert "access_token" in fragment
    evil = await server.post(
        f"{LINK}?redirect_to=https://evil.example", {"type": "magiclink", "email": user["email"]}
    )
    assert evil.json["redirect_to"] == node.services.settings.base_url


async def test_code_signs_in_too(server: Client, caller: Client) -> None:
    """Six digits, for who types them."""
    user = await confirmed(server)
    link = await make(server, "magiclink", email=user["email"])
    body = {"type": "email", "email": user["email"], "token": link["email_otp"]}
    assert (await caller.post("/auth/v1/verify", body)).status == 200


async def test_sign_up_link(server: Client, caller: Client) -> None:
    """Makes the account with its password; it signs in once the link was opened."""
    email = new_address()
    link = await make(server, "signup", email=email, password=PASSWORD, data={"a": 1})
    assert link["user_metadata"] == {"a": 1}
    assert code_of(await sign_in(caller, email)) == (400, "email_not_confirmed")
    assert (await verify(caller, link)).status == 200
    assert (await sign_in(caller, email)).status == 200


async def test_magic_link_for_somebody_new_signs_up(server: Client, caller: Client) -> None:
    """And says so, as Supabase Auth does."""
    link = await make(server, "magiclink", email=new_address())
    assert link["verification_type"] == "signup"
    assert (await verify(caller, link)).status == 200


async def test_invitation_to_hand_on(server: Client, caller: Client) -> None:
    """Like a mailed one."""
    link = await make(server, "invite", email=new_address())
    assert link["invited_at"]
    assert (await verify(caller, link)).status == 200


async def test_both_mailboxes_change_an_address(server: Client, caller: Client) -> None:
    """One link alone changes nothing, in whichever order they are made."""
    user, new_email = await confirmed(server), new_address()
    both = {"email": user["email"], "new_email": new_email}
    current = await make(server, "email_change_current", **both)
    assert current["verification_type"] == "email_change_current"
    assert (await verify(caller, current)).status == 200
    path = f"/auth/v1/admin/users/{user['id']}"
    assert (await server.get(path)).json["email"] == user["email"]
    new = await make(server, "email_change_new", **both)
    assert (await verify(caller, new)).status == 200
    assert (await server.get(path)).json["email"] == new_email


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "validation_failed")),
        ({"type": "sms", "email": "a@example.com"}, (400, "validation_failed")),
        ({"type": "magiclink"}, (400, "email_address_invalid")),
        ({"type": "signup", "email": "a@example.com"}, (400, "validation_failed")),
        ({"type": "signup", "email": "a@example.com", "password": "x"}, (422, "weak_password")),
        ({"type": "recovery", "email": "nobody@example.com"}, (404, "user_not_found")),
        (
            {
                "type": "email_change_new",
                "email": "nobody@example.com",
                "new_email": "b@example.com",
            },
            (404, "user_not_found"),
        ),
        ({"type": "email_change_new", "email": "a@example.com"}, (400, "email_address_invalid")),
    ],
    ids=str,
)
async def test_link_that_cannot_be_made(
    server: Client, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each is refused in Supabase Auth's code."""
    assert code_of(await server.post(LINK, body)) == expected


async def test_taken_addresses_are_refused(server: Client) -> None:
    """Whoever has confirmed theirs is not signed up again, and nobody takes it over."""
    taken, other = await confirmed(server), await confirmed(server)
    for body in (
        {"type": "signup", "email": taken["email"], "password": PASSWORD},
        {"type": "invite", "email": taken["email"]},
        {"type": "email_change_new", "email": other["email"], "new_email": taken["email"]},
    ):
        assert code_of(await server.post(LINK, body)) == (422, "email_exists")


async def test_people_make_no_links(node: Node, server: Client, caller: Client) -> None:
    """Only the secret key does, and what it made is in the log without the link."""
    user = await confirmed(server)
    session = (await sign_in(caller, user["email"])).json
    for path in (LINK, "/auth/v1/invite"):
        body = {"type": "magiclink", "email": user["email"]}
        assert code_of(await signed_in(caller, session).post(path, body)) == (403, "not_admin")
        assert code_of(await caller.post(path, body)) == (401, "no_authorization")
    link = await make(server, "magiclink", email=user["email"])
    (entry,) = await audit.listed(node.services.db, user_id=user["id"], action="link.made")
    assert (entry.actor, entry.details) == ("secret_key", {"kind": "magiclink"})
    assert link["hashed_token"] not in str(entry)
