"""Passkeys and security keys over HTTP, with authenticators that do not always tell the truth."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from chatkeep.db import ADMIN, AUTH
from tests.authenticators import (
    Authenticator,
    bytes_of,
    other_challenge,
    passkey_of,
    registered,
    text_of,
)
from tests.http.test_factors import Text, claims, refused
from tests.second_factors import join, stepped_up, verify

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.second_factors import Member
    from tests.serving import Answer, Node

#: What an authenticator or its browser may do wrong.
WRONGS: dict[str, dict[str, Any]] = {
    "another site": {"origin": "http://localhost.evil.example:8000"},
    "another port": {"origin": "http://localhost:8001"},
    "another scheme": {"origin": "https://localhost:8000"},
    "another domain": {"rp_id": "evil.example"},
    "nobody touched it": {"present": False},
    "a frame in another site": {"says": {"crossOrigin": True}},
    "a frame that names the site": {"says": {"topOrigin": "https://evil.example"}},
    "another ceremony": {"says": {"type": "payment.get"}},
    "another challenge": {"says": {"challenge": other_challenge()}},
    "no challenge": {"says": {"challenge": ""}},
}
LOCKED = {"nobody unlocked it": {"unlocked": False}}


@pytest.fixture
async def ana(node: Node) -> Member:
    """Somebody new."""
    return await join(node)


@pytest.fixture
async def bo(node: Node) -> Member:
    """Somebody else."""
    return await join(node)


async def offered(member: Member) -> dict[str, Any]:
    """Return the options for a new passkey, with the challenge's id."""
    answer = await member.client.post("/auth/v1/passkeys/registration/options", {})
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


async def asked(node: Node) -> dict[str, Any]:
    """Return the options for signing in, with the challenge's id."""
    answer = await node.nobody().post("/auth/v1/passkeys/authentication/options", {})
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


async def shown(node: Node, challenge_id: str, credential: object) -> Answer:
    """Sign in with what an authenticator returned."""
    body = {"challenge_id": challenge_id, "credential": credential}
    return await node.nobody().post("/auth/v1/passkeys/authentication/verify", body)


async def signed_in(node: Node, key: Authenticator) -> Answer:
    """Sign in with *key*."""
    offer = await asked(node)
    return await shown(node, offer["challenge_id"], key.get(offer["options"]))


async def audited(node: Node, action: str) -> list[str]:
    """Return the reasons of the newest entries about *action*."""
    await node.services.embedded.notices.write()
    found = await node.services.db.fetch(
        ADMIN,
        "select coalesce(reason, outcome) as text from chatkeep.audit_log where action = %s"
        " order by number desc limit 20",
        (action,),
        row=Text,
    )
    return [one.text for one in found]


# --- passkeys ------------------------------------------------------------------------------------


async def test_passkey_signs_in_without_a_password(node: Node, ana: Member) -> None:
    """Registered once, it begins a session at AAL2 that says by what."""
    offer = await offered(ana)
    options = offer["options"]
    assert options["rp"] == {"id": "localhost", "name": "localhost"}
    assert bytes_of(options["user"]["id"]) == UUID(ana.id).bytes
    assert options["authenticatorSelection"]["residentKey"] == "required"
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert [one["alg"] for one in options["pubKeyCredParams"]] == [-8, -7, -257]
    assert options["attestation"] == "none"
    key = Authenticator()
    made = await registered(ana, key, offer)
    assert made.json.keys() >= {"id", "created_at"}
    answer = await signed_in(node, key)
    assert answer.status == 200, answer.text
    assert answer.json["user"]["id"] == ana.id
    said = claims(answer.json)
    assert (said["aal"], [one["method"] for one in said["amr"]]) == ("aal2", ["passkey"])
    (listed,) = (await ana.client.get("/auth/v1/passkeys")).json
    assert (listed["id"], "last_used_at" in listed) == (made.json["id"], True)


async def test_options_name_nobody(node: Node, ana: Member) -> None:
    """Whoever asks to sign in learns of no key."""
    await passkey_of(ana)
    options = (await asked(node))["options"]
    assert options.get("allowCredentials", []) == []
    assert options["userVerification"] == "required"


async def test_second_passkey_on_one_authenticator_is_not_made(ana: Member, bo: Member) -> None:
    """The options exclude those there are, and a key of somebody's is nobody else's."""
    key = await passkey_of(ana)
    offer = await offered(ana)
    (excluded,) = offer["options"]["excludeCredentials"]
    assert bytes_of(excluded["id"]) == key.id
    assert excluded["transports"] == ["internal"]
    for member in (ana, bo):
        assert refused(await registered(member, key)) == (422, "webauthn_credential_exists")


@pytest.mark.parametrize("wrong", [*WRONGS, *LOCKED])
async def test_wrong_answer_signs_nobody_in(node: Node, ana: Member, wrong: str) -> None:
    """Origin, domain, challenge, touch and unlocking are all looked at."""
    key = await passkey_of(ana)
    for name, value in {**WRONGS, **LOCKED}[wrong].items():
        setattr(key, name, value)
    assert refused(await signed_in(node, key)) == (400, "webauthn_verification_failed")


@pytest.mark.parametrize("wrong", [*WRONGS, *LOCKED, "another algorithm"])
async def test_wrong_answer_registers_nothing(ana: Member, wrong: str) -> None:
    """The same when a passkey is made, and its algorithm is one of ours."""
    wrongs = {**WRONGS, **LOCKED, "another algorithm": {"algorithm": -47}}
    answer = await registered(ana, Authenticator(**wrongs[wrong]))
    assert refused(answer) == (400, "webauthn_verification_failed")
    assert (await ana.client.get("/auth/v1/passkeys")).json == []


async def test_answers_of_nobody_and_of_somebody_look_alike(node: Node, ana: Member) -> None:
    """A key nobody has, a wrong signature and another's handle are refused in one way."""
    key = await passkey_of(ana)
    stranger = Authenticator(handle=key.handle)
    forged = Authenticator(id=key.id, handle=key.handle)
    renamed = Authenticator(id=key.id, key=key.key, handle=None)
    swapped = Authenticator(id=key.id, key=key.key, handle=stranger_handle())
    answers = [await signed_in(node, one) for one in (stranger, forged, renamed, swapped)]
    bodies = {(one.status, one.body) for one in answers}
    assert len(bodies) == 1
    assert refused(answers[0]) == (400, "webauthn_verification_failed")
    assert {"unknown_passkey", "verification_failed"} <= set(await audited(node, "passkey.refused"))


def stranger_handle() -> str:
    """Return the handle of a person there is not."""
    return other_challenge()[:22]


@pytest.mark.parametrize(
    "credential",
    [
        None,
        {},
        [],
        {"id": "x"},
        {"id": 7, "response": {}},
        {"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": {}},
        {"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": []},
        {
            "id": "AAAA",
            "rawId": "AAAA",
            "type": "public-key",
            "response": {
                "clientDataJSON": "bnVsbA",
                "attestationObject": "oA",
                "authenticatorData": "AA",
                "signature": "AA",
                "userHandle": "AA",
            },
        },
    ],
    ids=str,
)
async def test_garbage_is_refused(node: Node, ana: Member, credential: object) -> None:
    """Whatever is no answer of an authenticator is refused, and breaks nothing."""
    offer = await asked(node)
    answer = await shown(node, offer["challenge_id"], credential)
    assert refused(answer)[0] == 400
    made = await offered(ana)
    body = {"challenge_id": made["challenge_id"], "credential": credential}
    answer = await ana.client.post("/auth/v1/passkeys/registration/verify", body)
    assert refused(answer)[0] == 400


async def test_answer_is_good_once(node: Node, ana: Member) -> None:
    """What an authenticator signed is worth nothing a second time, also at the same moment."""
    key = await passkey_of(ana)
    offer = await asked(node)
    credential = key.get(offer["options"])
    answers = await asyncio.gather(
        *(shown(node, offer["challenge_id"], credential) for _ in range(20))
    )
    assert sorted(one.status for one in answers) == [200] + [400] * 19
    again = await shown(node, offer["challenge_id"], credential)
    assert refused(again) == (400, "webauthn_challenge_not_found")
    other = await asked(node)
    moved = await shown(node, other["challenge_id"], credential)
    assert refused(moved) == (400, "webauthn_verification_failed")


async def test_challenge_is_gone_after_a_wrong_answer(node: Node, ana: Member) -> None:
    """Each challenge is good for one answer, right or wrong."""
    key = await passkey_of(ana)
    offer = await asked(node)
    await shown(node, offer["challenge_id"], {})
    answer = await shown(node, offer["challenge_id"], key.get(offer["options"]))
    assert refused(answer) == (400, "webauthn_challenge_not_found")


async def test_challenge_ends_after_five_minutes(node: Node, ana: Member) -> None:
    """Later it is expired, for signing in and for a new passkey."""
    key = await passkey_of(ana)
    offer, made = await asked(node), await offered(ana)
    for expire in (
        "update chatkeep.passkey_challenges set expires_at = now()",
        "update chatkeep.factor_challenges set expires_at = now()",
    ):
        await node.services.db.execute(AUTH, expire, ())
    answer = await shown(node, offer["challenge_id"], key.get(offer["options"]))
    assert refused(answer) == (400, "webauthn_challenge_expired")
    answer = await registered(ana, Authenticator(), made)
    assert refused(answer) == (400, "webauthn_challenge_expired")


async def test_challenge_of_another_registers_nothing(ana: Member, bo: Member) -> None:
    """A registration that one began cannot be finished by another."""
    offer = await offered(ana)
    answer = await registered(bo, Authenticator(), offer)
    assert refused(answer) == (400, "webauthn_challenge_not_found")


@pytest.mark.parametrize("before", [4, 10])
async def test_cloned_passkey_is_noticed(node: Node, ana: Member, before: int) -> None:
    """A counter that does not grow means two of one key: refused, and in the audit log."""
    key = await passkey_of(ana)
    key.counter = 10
    assert (await signed_in(node, key)).status == 200
    key.counter = before
    assert refused(await signed_in(node, key)) == (400, "webauthn_verification_failed")
    assert "cloned_authenticator" in await audited(node, "passkey.refused")


async def test_passkey_without_a_counter_is_good_again(node: Node, ana: Member) -> None:
    """Those that are synchronised say zero for ever."""
    key = await passkey_of(ana)
    for _ in range(2):
        key.counter = -1
        assert (await signed_in(node, key)).status == 200


async def test_suspended_person_is_told_after_the_passkey_was_right(
    node: Node, ana: Member
) -> None:
    """Only whoever has the passkey learns of the suspension."""
    key = await passkey_of(ana)
    await node.services.db.execute(
        AUTH, "update chatkeep.users set banned_until = 'infinity' where id = %s", (ana.id,)
    )
    assert refused(await signed_in(node, Authenticator(id=key.id, handle=key.handle))) == (
        400,
        "webauthn_verification_failed",
    )
    assert refused(await signed_in(node, key))[1] == "user_banned"


async def test_passkeys_are_named_and_removed_by_their_owner(
    node: Node, ana: Member, bo: Member
) -> None:
    """Another's looks like one that never was; a removed one signs nobody in."""
    key = await passkey_of(ana)
    (listed,) = (await ana.client.get("/auth/v1/passkeys")).json
    for passkey in (listed["id"], str(uuid4()), "no-id"):
        path = f"/auth/v1/passkeys/{passkey}"
        for answer in (
            await bo.client.patch(path, {"friendly_name": "mine"}),
            await bo.client.delete(path),
        ):
            assert refused(answer) == (404, "webauthn_credential_not_found")
    path = f"/auth/v1/passkeys/{listed['id']}"
    renamed = await ana.client.patch(path, {"friendly_name": "Blue key"})
    assert renamed.json["friendly_name"] == "Blue key"
    other = await signed_in(node, key)
    assert (await ana.client.delete(path)).status == 204
    assert refused(await signed_in(node, key)) == (400, "webauthn_verification_failed")
    assert (await ana.client.get("/auth/v1/passkeys")).json == []
    refreshed = await ana.refresh(other.json["refresh_token"])
    assert claims(refreshed.json)["aal"] == "aal1"


async def test_eleventh_passkey_is_refused(ana: Member) -> None:
    """One has ten at most."""
    offers = [await offered(ana)]
    for _ in range(10):
        await passkey_of(ana)
    answer = await ana.client.post("/auth/v1/passkeys/registration/options", {})
    assert refused(answer) == (422, "too_many_passkeys")
    answer = await registered(ana, Authenticator(), offers[0])
    assert answer.status in {400, 422}


async def test_password_alone_registers_no_passkey_beside_a_second_factor(ana: Member) -> None:
    """Otherwise a passkey would be the way around it."""
    await passkey_of(ana)
    (listed,) = (await ana.client.get("/auth/v1/passkeys")).json
    await stepped_up(ana)
    thief = await ana.again()
    path = f"/auth/v1/passkeys/{listed['id']}"
    for answer in (
        await thief.client.post("/auth/v1/passkeys/registration/options", {}),
        await thief.client.post(
            "/auth/v1/passkeys/registration/verify",
            {"challenge_id": str(uuid4()), "credential": {}},
        ),
        await thief.client.patch(path, {"friendly_name": "x"}),
        await thief.client.delete(path),
    ):
        assert refused(answer) == (403, "insufficient_aal")
    assert (await registered(ana, Authenticator())).status == 200


async def test_passkeys_can_be_switched_off(start: StartNode) -> None:
    """Then every route says so, and the settings too."""
    node = await start(PASSKEYS="off")
    ana = await join(node)
    for answer in (
        await node.nobody().post("/auth/v1/passkeys/authentication/options", {}),
        await node.nobody().post("/auth/v1/passkeys/authentication/verify", {}),
        await ana.client.get("/auth/v1/passkeys"),
        await ana.client.post("/auth/v1/passkeys/registration/options", {}),
    ):
        assert refused(answer) == (404, "passkey_disabled")
    assert (await node.nobody().get("/auth/v1/settings")).json["passkeys_enabled"] is False


async def test_server_without_a_domain_has_no_keys(start: StartNode) -> None:
    """Authenticators know domains and no addresses."""
    node = await start(PUBLIC_URL="http://192.0.2.1:8000")
    ana = await join(node)
    answer = await ana.client.post("/auth/v1/factors", {"factor_type": "webauthn"})
    assert refused(answer) == (422, "mfa_webauthn_enroll_not_enabled")
    answer = await ana.client.get("/auth/v1/passkeys")
    assert refused(answer) == (404, "passkey_disabled")


# --- security keys as a second factor ------------------------------------------------------------


async def challenged(member: Member, factor_id: str) -> dict[str, Any]:
    """Return a challenge of a security key."""
    answer = await member.client.post(f"/auth/v1/factors/{factor_id}/challenge", {"x": 1})
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


async def answered(member: Member, factor_id: str, key: Authenticator) -> Answer:
    """Challenge a security key and answer."""
    made = await challenged(member, factor_id)
    kind = made["webauthn"]["type"]
    options = made["webauthn"]["credential_options"]["publicKey"]
    response = key.create(options) if kind == "create" else key.get(options)
    return await member.client.post(
        f"/auth/v1/factors/{factor_id}/verify",
        {
            "challenge_id": made["id"],
            "webauthn": {"type": kind, "rpId": "evil.example", "credential_response": response},
        },
    )


async def enrolled(member: Member) -> str:
    """Begin to add a security key; return the factor's id."""
    body = {"factor_type": "webauthn", "friendly_name": "Blue key"}
    answer = await member.client.post("/auth/v1/factors", body)
    assert answer.status == 200, answer.text
    return str(answer.json["id"])


async def test_security_key_raises_the_session(ana: Member) -> None:
    """First it is made, then it is asked, and whoever has it is at AAL2."""
    factor, key = await enrolled(ana), Authenticator(unlocked=False)
    first = await answered(ana, factor, key)
    assert claims(first.json)["aal"] == "aal2"
    assert claims(first.json)["amr"][0]["method"] == "mfa/webauthn"
    again = await ana.again()
    made = await challenged(again, factor)
    assert made["webauthn"]["type"] == "request"
    allowed = made["webauthn"]["credential_options"]["publicKey"]["allowCredentials"]
    assert [bytes_of(one["id"]) for one in allowed] == [key.id]
    second = await answered(again, factor, key)
    assert claims(second.json)["aal"] == "aal2"


@pytest.mark.parametrize("wrong", WRONGS)
async def test_wrong_answer_raises_no_session(ana: Member, wrong: str) -> None:
    """Neither when the key is made nor when it is asked."""
    factor, key = await enrolled(ana), Authenticator()
    bad = Authenticator(**WRONGS[wrong])
    assert refused(await answered(ana, factor, bad)) == (422, "mfa_verification_failed")
    assert (await answered(ana, factor, key)).status == 200
    again = await ana.again()
    for name, value in WRONGS[wrong].items():
        setattr(key, name, value)
    assert refused(await answered(again, factor, key)) == (422, "mfa_verification_failed")


async def test_security_key_is_its_factors_alone(node: Node, ana: Member, bo: Member) -> None:
    """It signs nobody in without a password, and is no key of another's factor."""
    factor, key = await enrolled(ana), Authenticator()
    assert (await answered(ana, factor, key)).status == 200
    key.handle = text_of(UUID(ana.id).bytes)  # no signature covers it: whoever holds the key can
    assert refused(await signed_in(node, key)) == (400, "webauthn_verification_failed")
    other = await enrolled(bo)
    assert refused(await answered(bo, other, key)) == (422, "mfa_verification_failed")
    assert (await answered(bo, other, Authenticator())).status == 200
    again = await bo.again()
    assert refused(await answered(again, other, key)) == (422, "mfa_verification_failed")


async def test_cloned_security_key_is_noticed(ana: Member) -> None:
    """A counter that goes backwards is refused, and in the audit log."""
    factor, key = await enrolled(ana), Authenticator(counter=7)
    assert (await answered(ana, factor, key)).status == 200
    key.counter = 3
    again = await ana.again()
    assert refused(await answered(again, factor, key)) == (422, "mfa_verification_failed")
    assert "cloned_authenticator" in await audited(ana.node, "factor.verified")


async def test_challenge_of_a_key_is_good_once(ana: Member) -> None:
    """Twenty answers at once with one signature let one in."""
    factor, key = await enrolled(ana), Authenticator()
    assert (await answered(ana, factor, key)).status == 200
    made = await challenged(ana, factor)
    response = key.get(made["webauthn"]["credential_options"]["publicKey"])
    body = {
        "challenge_id": made["id"],
        "webauthn": {"type": "request", "credential_response": response},
    }
    path = f"/auth/v1/factors/{factor}/verify"
    answers = await asyncio.gather(*(ana.client.post(path, body) for _ in range(20)))
    assert [one.status for one in answers].count(200) == 1


async def test_code_and_key_do_not_stand_in_for_each_other(ana: Member) -> None:
    """A code does not verify a security key, nor an answer of a key an app."""
    app = await stepped_up(ana)
    factor = await enrolled(ana)
    made = await challenged(ana, factor)
    body = {"challenge_id": made["id"], "code": app.code()}
    answer = await ana.client.post(f"/auth/v1/factors/{factor}/verify", body)
    assert refused(answer) == (404, "mfa_factor_not_found")
    body = {"challenge_id": made["id"], "webauthn": {"type": "create", "credential_response": {}}}
    answer = await ana.client.post(f"/auth/v1/factors/{app.factor_id}/verify", body)
    assert refused(answer) == (404, "mfa_factor_not_found")
    assert (await verify(ana, app)).status == 200


async def test_deleted_account_leaves_no_keys_behind(node: Node, ana: Member) -> None:
    """Also where the row of the account is kept: nobody signs in, and nothing is left to show."""
    key = await passkey_of(ana)
    server = node.nobody(authorization=f"Bearer {node.services.embedded.supabase_keys.secret}")
    path = f"/auth/v1/admin/users/{ana.id}"
    deleted = await server.call("DELETE", path, json={"should_soft_delete": True})
    assert deleted.status == 200
    assert refused(await signed_in(node, key)) == (400, "webauthn_verification_failed")
    left = await node.services.db.fetch(
        AUTH,
        "select id::text as text from chatkeep.webauthn_credentials where user_id = %s",
        (ana.id,),
        row=Text,
    )
    assert left == []
