"""The first proof of a mailbox: whoever only typed its address is in the account no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from chatkeep.db import ADMIN, AUTH
from tests.authenticators import Authenticator, passkey_of
from tests.gotrue_people import code_of, sign_in
from tests.http.mailbox import landed, mails_to, newest_to, open_and_press, secret_of
from tests.http.test_passkeys import signed_in as signed_in_with
from tests.http.test_personal_keys import key_of, works
from tests.second_factors import PASSWORD, join, stepped_up

if TYPE_CHECKING:
    from tests.second_factors import Member
    from tests.serving import Client, Node


@dataclass(frozen=True, slots=True)
class Entry:
    """What the audit log says of one step."""

    details: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Squatter:
    """Somebody in an account with an address that they typed, and their ways into it."""

    member: Member
    passkey: Authenticator
    api_key: Client


async def settled(node: Node) -> Squatter:
    """Let somebody sign up with an address, and add whatever there is to sign in with."""
    member = await join(node)
    api_key = await key_of(node, member.client)
    passkey = await passkey_of(member)
    await stepped_up(member)
    await node.services.db.execute(
        AUTH,
        "insert into chatkeep.identities (user_id, id, issuer, provider, provider_id,"
        " identity_data) values (%(who)s, gen_random_uuid(), 'https://github.com', 'github',"
        ' %(who)s::text, \'{"email": "other@example.com", "email_verified": true}\')',
        {"who": UUID(member.id)},
    )
    return Squatter(member=member, passkey=passkey, api_key=api_key)


async def recovered(node: Node, email: str, way: str = "recover") -> Client:
    """Come by a mail to *email*; return who is signed in by it."""
    nobody = node.nobody()
    assert (await nobody.post(f"/auth/v1/{way}", {"email": email})).status == 200
    kind = "recovery" if way == "recover" else "magic_link"
    link = (await newest_to(node, email, kind)).link
    said = landed(await open_and_press(nobody, link))[2]
    return nobody.but(authorization=f"Bearer {said['access_token']}")


async def drops(node: Node, member: Member) -> list[dict[str, Any]]:
    """Return what the audit log says was dropped from the account."""
    found = await node.services.db.fetch(
        ADMIN,
        "select details from chatkeep.audit_log where action = 'user.access_dropped'"
        " and right(user_id, 36) = %s order by number",
        (member.id,),
        row=Entry,
    )
    return [one.details for one in found]


@pytest.mark.parametrize("way", ["recover", "otp"])
async def test_whoever_typed_the_address_is_out_when_its_reader_comes(node: Node, way: str) -> None:
    """By none of their ways do they come back, and the reader is told what was removed."""
    squatter = await settled(node)
    member = squatter.member
    before = member.session
    assert await works(squatter.api_key)
    owner = await recovered(node, member.email, way)
    user = (await owner.get("/auth/v1/user")).json
    assert (user["id"], user.get("factors", [])) == (member.id, [])
    assert [one["provider"] for one in user["identities"]] == ["email"]
    assert user["app_metadata"]["providers"] == ["email"]
    assert code_of(await member.client.get("/auth/v1/user")) == (403, "session_not_found")
    assert (await member.refresh(before["refresh_token"])).status == 400
    assert code_of(await sign_in(node.nobody(), member.email, PASSWORD))[1] == "invalid_credentials"
    assert (await signed_in_with(node, squatter.passkey)).status == 400
    assert not await works(squatter.api_key)
    assert (await owner.get("/auth/v1/passkeys")).json == []
    (dropped,) = await drops(node, member)
    assert dropped == {
        "password": True,
        "sessions": dropped["sessions"],
        "passkeys": 1,
        "factors": 1,
        "identities": 1,
        "api_keys": 1,
    }
    assert dropped["sessions"] >= 1
    assert (await newest_to(node, member.email, "access_dropped")).link is None
    changed = await owner.call("PUT", "/auth/v1/user", json={"password": "a new long one"})
    assert changed.status == 200, changed.text
    assert (await sign_in(node.nobody(), member.email, "a new long one")).status == 200


async def test_what_is_added_after_the_first_proof_stays(node: Node) -> None:
    """Also when the reader comes by a mail again: then nothing of it is a stranger's."""
    member = await join(node)
    owner = await recovered(node, member.email)
    changed = await owner.call("PUT", "/auth/v1/user", json={"password": PASSWORD})
    assert changed.status == 200, changed.text
    again = await member.again()
    api_key = await key_of(node, again.client)
    passkey = await passkey_of(again)
    app = await stepped_up(again)
    for way in ("recover", "otp"):
        owner = await recovered(node, member.email, way)
        assert [one["id"] for one in (await owner.get("/auth/v1/user")).json["factors"]] == [
            app.factor_id
        ]
    assert (await again.client.get("/auth/v1/user")).status == 200
    assert (await signed_in_with(node, passkey)).status == 200
    assert await works(api_key)
    assert len(await drops(node, member)) == 1
    kinds = [one.kind for one in await mails_to(node, member.email)]
    assert kinds.count("access_dropped") == 1


async def test_proof_in_a_flow_with_a_code_ends_the_same(node: Node) -> None:
    """What is dropped is dropped when the link is opened, and not with the exchange."""
    from tests.http.test_mail_sign_in import CHALLENGE, VERIFIER  # noqa: PLC0415 -- for this alone

    squatter = await settled(node)
    nobody, email = node.nobody(), squatter.member.email
    await nobody.post("/auth/v1/recover", {"email": email, **CHALLENGE})
    link = (await newest_to(node, email, "recovery")).link
    _, query, _ = landed(await open_and_press(nobody, link))
    assert (await squatter.member.client.get("/auth/v1/user")).status == 403
    body = {"auth_code": query["code"], "code_verifier": VERIFIER}
    assert (await nobody.post("/auth/v1/token?grant_type=pkce", body)).status == 200


async def test_what_was_mailed_before_ends_with_the_first_proof(node: Node) -> None:
    """A stranger may have asked for it, in a flow of theirs."""
    member = await join(node)
    nobody = node.nobody()
    await nobody.post("/auth/v1/otp", {"email": member.email})
    earlier = await newest_to(node, member.email, "magic_link")
    await recovered(node, member.email)
    body = {"type": "magiclink", "token_hash": secret_of(earlier.link)}
    assert code_of(await nobody.post("/auth/v1/verify", body)) == (403, "otp_expired")


async def test_address_that_another_spelling_proves_is_proved(node: Node) -> None:
    """What was imported may have it as it was once typed."""
    member = await join(node)
    await node.services.db.execute(
        AUTH,
        "insert into chatkeep.identities (user_id, id, provider, provider_id, identity_data)"
        " values (%(who)s, gen_random_uuid(), 'github', %(who)s::text,"
        " jsonb_build_object('email', upper(%(email)s), 'email_verified', true))",
        {"who": UUID(member.id), "email": member.email},
    )
    await recovered(node, member.email)
    assert (await member.client.get("/auth/v1/user")).status == 200
    assert await drops(node, member) == []
