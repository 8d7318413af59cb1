"""Second factors with an authenticator app, over HTTP, and what a thief of a password tries."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import pytest
from fastapi import Depends, FastAPI

from chatkeep import Principal, require
from chatkeep.db import ADMIN, AUTH
from tests.authenticators import passkey_of
from tests.http.mailbox import mails_to
from tests.http.test_guard import served
from tests.second_factors import (
    App,
    challenge,
    enroll,
    forget_codes,
    join,
    stepped_up,
    verify,
)
from tests.serving import SERVER_SECRET

if TYPE_CHECKING:
    import aiohttp

    from tests.http.conftest import StartNode
    from tests.second_factors import Member
    from tests.serving import Answer, Node


@pytest.fixture
async def ana(node: Node) -> Member:
    """Somebody new."""
    return await join(node)


@pytest.fixture
async def bo(node: Node) -> Member:
    """Somebody else."""
    return await join(node)


def claims(session: dict[str, Any]) -> dict[str, Any]:
    """Return what the access token says."""
    payload = session["access_token"].split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return found


def refused(answer: Answer) -> tuple[int, str]:
    """Return the status and code of a refusal."""
    assert answer.status >= 400, answer.text
    return answer.status, answer.headers["x-sb-error-code"]


async def audited(member: Member) -> list[str]:
    """Return what the audit log says of a person's factors, oldest first."""
    found = await member.node.services.db.fetch(
        ADMIN,
        "select action as text from (select number, concat_ws(' ', action, outcome, reason)"
        " as action from chatkeep.audit_log where user_id like %s and action like 'factor.%%')"
        " found order by number",
        (f"%{member.id}",),
        row=Text,
    )
    return [one.text for one in found]


class Text:
    """A row with a text."""

    def __init__(self, text: str) -> None:
        self.text = text


# --- the way in --------------------------------------------------------------------------------


async def test_authenticator_app_raises_the_session(ana: Member) -> None:
    """Enrolled, challenged and verified, the same session is at AAL2 and says by what."""
    before = claims(ana.session)
    answer = await ana.client.post(
        "/auth/v1/factors", {"factor_type": "totp", "friendly_name": "Phone", "issuer": "Chat"}
    )
    made = answer.json
    assert (made["type"], made["friendly_name"]) == ("totp", "Phone")
    assert made["totp"]["qr_code"].startswith("<svg")
    assert "#" not in made["totp"]["qr_code"]
    assert made["totp"]["uri"].startswith("otpauth://totp/Chat:")
    app = App(factor_id=made["id"], secret=made["totp"]["secret"])
    (listed,) = await ana.factors()
    assert (listed["id"], listed["status"]) == (app.factor_id, "unverified")
    raised = await verify(ana, app)
    after = claims(raised.json)
    assert after["session_id"] == before["session_id"]
    assert (before["aal"], after["aal"]) == ("aal1", "aal2")
    assert [one["method"] for one in after["amr"]] == ["totp", "password"]
    (listed,) = raised.json["user"]["factors"]
    assert listed["status"] == "verified"
    assert listed.keys() >= {"id", "factor_type", "created_at", "updated_at"}
    assert await audited(ana) == [
        "factor.enrolled succeeded",
        "factor.verified succeeded",
        "factor.added succeeded",
    ]


async def test_challenge_says_until_when(ana: Member) -> None:
    """It lives for five minutes, said in seconds since 1970."""
    app = await enroll(ana)
    answer = await ana.client.post(f"/auth/v1/factors/{app.factor_id}/challenge", {"x": 1})
    lives_s = answer.json["expires_at"] - claims(ana.session)["iat"]
    assert answer.json["type"] == "totp"
    assert 295 <= lives_s <= 360


async def test_raised_session_stays_raised(ana: Member) -> None:
    """A refresh of the raised session is at AAL2 too."""
    await stepped_up(ana)
    refreshed = await ana.refresh()
    assert claims(refreshed.json)["aal"] == "aal2"


async def test_secret_is_not_in_the_database(ana: Member) -> None:
    """What is kept of an authenticator app opens with the server's secret only."""
    app = await enroll(ana)
    rows = await ana.node.services.db.fetch(
        AUTH,
        "select f::text || encode(secret, 'escape') as text from chatkeep.factors f"
        " where user_id = %s",
        (ana.id,),
        row=Text,
    )
    assert app.secret not in rows[0].text


# --- codes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [-1, 0, 1])
async def test_neighbouring_code_is_good(ana: Member, steps: int) -> None:
    """The clocks may differ by one step of 30 seconds."""
    app = await enroll(ana)
    code = app.code(steps)
    answer = await verify(ana, app, code)
    if answer.status != 200 and code != app.code(steps):  # the step ended in between
        answer = await verify(ana, app, app.code(steps))
    assert answer.status == 200


@pytest.mark.parametrize("steps", [-4, 4])
async def test_distant_code_is_refused(ana: Member, steps: int) -> None:
    """Two minutes away it is wrong."""
    app = await enroll(ana)
    answer = await verify(ana, app, app.code(steps))
    assert refused(answer) == (422, "mfa_verification_failed")


@pytest.mark.parametrize(
    "code",
    ["", "12345", "1234567", "abcdef", "\uff11\uff12\uff13\uff14\uff15\uff16", "\ud83d", None],
)
async def test_odd_code_is_refused(ana: Member, code: str | None) -> None:
    """Whatever is no code is a wrong one."""
    app = await enroll(ana)
    asked = {"challenge_id": await challenge(ana, app.factor_id), "code": code}
    answer = await ana.client.post(f"/auth/v1/factors/{app.factor_id}/verify", asked)
    assert refused(answer)[0] in {400, 422}


async def test_code_is_good_once(ana: Member) -> None:
    """The code that was taken, and any of an older step, are refused while they are shown."""
    app = await enroll(ana)
    newer, older = app.code(1), app.code()
    assert (await verify(ana, app, newer)).status == 200
    for code in (newer, older):
        assert refused(await verify(ana, app, code)) == (422, "mfa_verification_failed")


async def test_hundred_at_once_with_one_code_let_one_in(ana: Member) -> None:
    """A code seen over the shoulder is of no use to whoever types it at the same moment."""
    app = await enroll(ana)
    asked = {"challenge_id": await challenge(ana, app.factor_id), "code": app.code()}
    path = f"/auth/v1/factors/{app.factor_id}/verify"
    answers = await asyncio.gather(*(ana.client.post(path, asked) for _ in range(100)))
    assert sorted({one.status for one in answers} - {503}) == [200, 404]
    assert [one.status for one in answers].count(200) == 1


async def test_guessing_becomes_slow(ana: Member) -> None:
    """After four wrong codes each further one costs a wait, that a right one has to keep too."""
    app = await stepped_up(ana)
    thief = await ana.again()
    for _ in range(5):
        wrong = str((int(app.code()) + 500_000) % 1_000_000).zfill(6)
        assert refused(await verify(thief, app, wrong)) == (422, "mfa_verification_failed")
    answer = await verify(thief, app)
    assert refused(answer) == (429, "over_request_rate_limit")
    assert 1 <= int(answer.headers["retry-after"]) <= 15
    assert (await audited(ana)).count("factor.verified refused mfa_verification_failed") == 5
    await ana.node.services.db.execute(
        AUTH, "update chatkeep.factors set locked_until = now() where user_id = %s", (ana.id,)
    )
    assert (await verify(thief, app)).status == 200


async def test_guesses_are_counted_at_the_account(start: StartNode) -> None:
    """However many sessions and challenges a guesser has, the account has few allowances.

    Ten for whoever comes from anywhere, and ten for a network where it has signed in.
    """
    node = await start(RATE_LIMITS="on")
    ana = await join(node)
    app = await enroll(ana)
    statuses = []
    for _ in range(22):
        answer = await verify(ana, app, "000000")
        statuses.append(answer.status)
        await forget_codes(ana)
    assert statuses == [422] * 20 + [429] * 2


async def test_what_is_no_guess_is_not_counted(start: StartNode) -> None:
    """Expired challenges and factors that are not there use up no tries."""
    node = await start(RATE_LIMITS="on")
    ana = await join(node)
    app = await enroll(ana)
    for _ in range(25):
        asked = {"challenge_id": str(uuid4()), "code": "000000"}
        answer = await ana.client.post(f"/auth/v1/factors/{app.factor_id}/verify", asked)
        assert refused(answer) == (404, "mfa_factor_not_found")
    assert (await verify(ana, app)).status == 200


# --- challenges --------------------------------------------------------------------------------


async def test_challenge_ends_after_five_minutes(ana: Member) -> None:
    """Later it is expired, and a new one has to be made."""
    app = await enroll(ana)
    asked = {"challenge_id": await challenge(ana, app.factor_id), "code": app.code()}
    await ana.node.services.db.execute(
        AUTH,
        "update chatkeep.factor_challenges set expires_at = now() where user_id = %s",
        (ana.id,),
    )
    answer = await ana.client.post(f"/auth/v1/factors/{app.factor_id}/verify", asked)
    assert refused(answer) == (422, "mfa_challenge_expired")


async def test_challenge_is_for_the_network_that_asked(start: StartNode) -> None:
    """Another network is refused; in IPv6 a network is a /64, whose devices may move."""
    node = await start(TRUSTED_PROXIES="127.0.0.1")
    ana = await join(node)
    app = await enroll(ana)
    for asked_at, shown_at, good in (
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "2001:db8::1", False),
        ("2001:db8::1", "2001:db8::2", True),
    ):
        there = ana.client.but(x_forwarded_for=asked_at)
        made = await there.post(f"/auth/v1/factors/{app.factor_id}/challenge")
        elsewhere = ana.client.but(x_forwarded_for=shown_at)
        asked = {"challenge_id": made.json["id"], "code": app.code()}
        answer = await elsewhere.post(f"/auth/v1/factors/{app.factor_id}/verify", asked)
        if good:
            assert answer.status == 200
        else:
            assert refused(answer) == (422, "mfa_ip_address_mismatch")


async def test_factor_of_another_looks_like_none(ana: Member, bo: Member) -> None:
    """Challenging, verifying and removing another's factor is answered as one that never was."""
    app, own = await enroll(ana), await enroll(bo)
    of_ana, of_bo = await challenge(ana, app.factor_id), await challenge(bo, own.factor_id)
    for factor in (app.factor_id, str(uuid4()), "no-id"):
        path = f"/auth/v1/factors/{factor}"
        attempts = (
            await bo.client.post(f"{path}/challenge"),
            await bo.client.post(f"{path}/verify", {"challenge_id": of_ana, "code": app.code()}),
            await bo.client.post(f"{path}/verify", {"challenge_id": of_bo, "code": app.code()}),
            await bo.client.delete(path),
        )
        for answer in attempts:
            assert refused(answer) == (404, "mfa_factor_not_found")
    mixed = await bo.client.post(
        f"/auth/v1/factors/{own.factor_id}/verify",
        {"challenge_id": of_ana, "code": own.code()},
    )
    assert refused(mixed) == (404, "mfa_factor_not_found")
    assert [one["status"] for one in await ana.factors()] == ["unverified"]


# --- what the password alone does not do ---------------------------------------------------------


async def test_password_alone_enrolls_no_further_factor(ana: Member) -> None:
    """With a verified factor, another is enrolled in a session that has shown it."""
    await stepped_up(ana)
    thief = await ana.again()
    answer = await thief.client.post("/auth/v1/factors", {"factor_type": "totp"})
    assert refused(answer) == (403, "insufficient_aal")
    assert (await ana.client.post("/auth/v1/factors", {"factor_type": "totp"})).status == 200


async def test_factor_enrolled_by_a_thief_before_goes_with_the_owners(ana: Member) -> None:
    """An unverified factor is gone as soon as another one is verified."""
    thief = await ana.again()
    planted = await enroll(thief, "planted")
    asked = await challenge(thief, planted.factor_id)
    await stepped_up(ana)
    again = await ana.again()
    answer = await again.client.post(
        f"/auth/v1/factors/{planted.factor_id}/verify",
        {"challenge_id": asked, "code": planted.code()},
    )
    assert refused(answer) == (404, "mfa_factor_not_found")
    assert len(await ana.factors()) == 1


async def test_password_alone_verifies_no_new_factor(ana: Member) -> None:
    """A factor enrolled at AAL2 and left unverified cannot be verified at AAL1."""
    await stepped_up(ana)
    second = await enroll(ana)
    thief = await ana.again()
    assert refused(await verify(thief, second)) == (403, "insufficient_aal")


async def test_password_alone_removes_no_factor(ana: Member) -> None:
    """A verified factor goes in a session that has shown one; an unverified one in any."""
    app = await stepped_up(ana)
    thief = await ana.again()
    answer = await thief.client.delete(f"/auth/v1/factors/{app.factor_id}")
    assert refused(answer) == (403, "insufficient_aal")
    answer = await ana.client.delete(f"/auth/v1/factors/{app.factor_id}")
    assert (answer.status, answer.json) == (200, {"id": app.factor_id})


@pytest.mark.parametrize("change", [{"password": "Another-Horse-43-stable"}, {"email": "x@y.test"}])
async def test_password_alone_changes_neither_password_nor_address(
    ana: Member, change: dict[str, str]
) -> None:
    """With a second factor they are changed in a session that has shown it."""
    await stepped_up(ana)
    thief = await ana.again()
    answer = await thief.client.call("PUT", "/auth/v1/user", json=change)
    assert refused(answer) == (403, "insufficient_aal")
    harmless = await thief.client.call("PUT", "/auth/v1/user", json={"data": {"a": 1}})
    assert harmless.status == 200


async def test_token_from_before_stays_what_it_was(ana: Member) -> None:
    """An access token that was taken before the second factor does nothing that needs it."""
    stolen = ana.client
    app = await stepped_up(ana)
    answer = await stolen.delete(f"/auth/v1/factors/{app.factor_id}")
    assert refused(answer) == (403, "insufficient_aal")


async def test_refresh_token_from_before_gives_nothing(ana: Member) -> None:
    """A refresh token that was taken before the second factor ends the session instead."""
    stolen = ana.session["refresh_token"]
    await stepped_up(ana)
    assert refused(await ana.refresh(stolen)) == (400, "refresh_token_already_used")
    assert refused(await ana.refresh()) == (400, "refresh_token_not_found")


async def test_other_sessions_without_the_factor_end(ana: Member) -> None:
    """Whoever else is signed in with the password alone is out at once."""
    other = await ana.again()
    await stepped_up(ana)
    assert refused(await other.client.get("/auth/v1/user")) == (403, "session_not_found")
    assert refused(await other.refresh()) == (400, "refresh_token_not_found")
    assert (await other.client.get("/api/v1/chat")).status == 401
    assert (await ana.client.get("/auth/v1/user")).status == 200
    ended = await ana.node.services.db.fetch(
        ADMIN,
        "select session_id as text from chatkeep.audit_log where user_id like %s"
        " and action = 'session.ended' and reason = 'second_factor'",
        (f"%{ana.id}",),
        row=Text,
    )
    assert [one.text for one in ended] == [claims(other.session)["session_id"]]


async def test_session_falls_when_its_factor_goes(ana: Member) -> None:
    """Sessions that were raised by a factor are at AAL1 after it was removed."""
    app = await stepped_up(ana)
    other = await ana.again()
    raised = await verify(other, app)
    other.holds(raised.json)
    await ana.client.delete(f"/auth/v1/factors/{app.factor_id}")
    for one in (ana, other):
        after = claims((await one.refresh()).json)
        assert after["aal"] == "aal1"
        assert [proof["method"] for proof in after["amr"]] == ["password"]


# --- bounds ------------------------------------------------------------------------------------


async def test_eleventh_factor_is_refused(ana: Member) -> None:
    """One has ten at most, also when the last two are asked for at once."""
    for number in range(9):
        await enroll(ana, f"Phone {number}")
    answers = await asyncio.gather(
        *(ana.client.post("/auth/v1/factors", {"factor_type": "totp"}) for _ in range(5))
    )
    assert sorted(one.status for one in answers) == [200, 422, 422, 422, 422]
    answer = await ana.client.post("/auth/v1/factors", {"factor_type": "totp"})
    assert refused(answer) == (422, "too_many_enrolled_mfa_factors")


async def test_name_is_given_once(ana: Member, bo: Member) -> None:
    """Two factors of a person differ by name; two people's need not."""
    await enroll(ana, "Phone")
    answer = await ana.client.post(
        "/auth/v1/factors", {"factor_type": "totp", "friendly_name": " Phone "}
    )
    assert refused(answer) == (422, "mfa_factor_name_conflict")
    await enroll(bo, "Phone")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"factor_type": "phone", "phone": "+41"}, (422, "mfa_phone_enroll_not_enabled")),
        ({"factor_type": "voice"}, (400, "validation_failed")),
        ({}, (400, "validation_failed")),
        ({"factor_type": "totp", "friendly_name": "x" * 101}, (400, "validation_failed")),
        ({"factor_type": "totp", "friendly_name": "a\nb"}, (400, "validation_failed")),
        ({"factor_type": "totp", "issuer": "a\u202eb"}, (400, "validation_failed")),
        ({"factor_type": "totp", "friendly_name": 7}, (400, "validation_failed")),
    ],
    ids=str,
)
async def test_odd_enrolment_is_refused(
    ana: Member, body: dict[str, Any], said: tuple[int, str]
) -> None:
    """Text messages are not sent, and names can be shown."""
    assert refused(await ana.client.post("/auth/v1/factors", body)) == said


async def test_anonymous_people_have_no_second_factor(ana: Member) -> None:
    """Who cannot sign in again has nothing to protect with one."""
    await ana.node.services.db.execute(
        AUTH, "update chatkeep.users set is_anonymous = true where id = %s", (ana.id,)
    )
    answer = await ana.client.post("/auth/v1/factors", {"factor_type": "totp"})
    assert refused(answer) == (403, "no_authorization")


# --- recovery codes ----------------------------------------------------------------------------


async def test_recovery_code_stands_in_for_a_lost_phone(ana: Member) -> None:
    """Each of ten is good once, however it is typed; then nine are left."""
    await stepped_up(ana)
    made = await ana.client.post("/auth/v1/factors/recovery-codes", {"friendly_name": "Paper"})
    codes = made.json["codes"]
    assert (made.json["type"], made.json["total"], len(set(codes))) == ("recovery_code", 10, 10)
    assert [one["factor_type"] for one in await ana.factors()] == ["totp", "recovery_code"]
    lost = await ana.again()
    typed = " ".join((codes[0][:4].upper() + "-" + codes[0][4:]).partition("-"))
    answer = await lost.client.post("/auth/v1/factors/recovery-codes/verify", {"code": typed})
    assert claims(answer.json)["aal"] == "aal2"
    assert claims(answer.json)["amr"][0]["method"] == "mfa/recovery_code"
    lost.holds(answer.json)
    again = await lost.client.post("/auth/v1/factors/recovery-codes/verify", {"code": codes[0]})
    assert refused(again) == (422, "mfa_verification_failed")
    status = (await lost.client.get("/auth/v1/factors/recovery-codes")).json
    assert (status["total"], status["remaining"]) == (10, 9)


async def test_hundred_at_once_with_one_recovery_code_let_one_in(ana: Member) -> None:
    """A recovery code is used up once."""
    await stepped_up(ana)
    made = await ana.client.post("/auth/v1/factors/recovery-codes")
    body = {"code": made.json["codes"][0]}
    path = "/auth/v1/factors/recovery-codes/verify"
    answers = await asyncio.gather(*(ana.client.post(path, body) for _ in range(100)))
    assert [one.status for one in answers].count(200) == 1


async def test_recovery_codes_need_another_factor(ana: Member) -> None:
    """They are made at AAL2 beside another factor, once, and go with the last one."""
    path = "/auth/v1/factors/recovery-codes"
    assert refused(await ana.client.post(path)) == (403, "insufficient_aal")
    assert refused(await ana.client.get(path)) == (404, "mfa_factor_not_found")
    app = await stepped_up(ana)
    assert refused(await ana.client.post(f"{path}/regenerate")) == (404, "mfa_factor_not_found")
    assert (await ana.client.post(path)).status == 200
    assert refused(await ana.client.post(path)) == (422, "mfa_verified_factor_exists")
    assert (await ana.client.delete(f"/auth/v1/factors/{app.factor_id}")).status == 200
    assert await ana.factors() == []


async def test_regenerated_codes_replace_the_old(ana: Member) -> None:
    """The factor keeps its id and name, and only the new codes are good."""
    await stepped_up(ana)
    path = "/auth/v1/factors/recovery-codes"
    first = (await ana.client.post(path, {"friendly_name": "Paper"})).json
    second = (await ana.client.post(f"{path}/regenerate")).json
    assert (second["id"], second["friendly_name"]) == (first["id"], "Paper")
    old = await ana.client.post(f"{path}/verify", {"code": first["codes"][0]})
    assert refused(old) == (422, "mfa_verification_failed")
    new = await ana.client.post(f"{path}/verify", {"code": second["codes"][0]})
    assert new.status == 200
    removed = await ana.client.delete(path)
    assert (removed.status, removed.json) == (200, {"id": first["id"]})


async def test_wrong_recovery_codes_lock_the_set(ana: Member) -> None:
    """After some wrong ones nobody looks at a recovery code for a while; the app still works."""
    app = await stepped_up(ana)
    path = "/auth/v1/factors/recovery-codes"
    codes = (await ana.client.post(path)).json["codes"]
    thief = await ana.again()
    for _ in range(5):
        await thief.client.post(f"{path}/verify", {"code": "0000-0000-0000-0000"})
    answer = await thief.client.post(f"{path}/verify", {"code": codes[0]})
    assert refused(answer) == (429, "mfa_recovery_codes_locked")
    assert "retry-after" in answer.headers
    assert (await verify(thief, app)).status == 200


async def test_recovery_codes_are_kept_as_hashes(ana: Member) -> None:
    """No code is in the database."""
    await stepped_up(ana)
    codes = (await ana.client.post("/auth/v1/factors/recovery-codes")).json["codes"]
    rows = await ana.node.services.db.fetch(
        AUTH,
        "select c::text || encode(hash, 'escape') as text from chatkeep.recovery_codes c"
        " where user_id = %s",
        (ana.id,),
        row=Text,
    )
    assert len(rows) == 10
    assert not any(code in row.text for code in codes for row in rows)


# --- a route that needs a second factor ----------------------------------------------------------


async def test_route_asks_for_a_second_factor_and_then_lets_in(
    node: Node, ana: Member, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401 says what would be enough (RFC 9470); after it the same request is a 200."""
    app = FastAPI()

    @app.delete("/account")
    async def close(
        who: Annotated[Principal, Depends(require(aal="aal2", max_age=timedelta(minutes=5)))],
    ) -> dict[str, str]:
        return {"closed": who.user_id}

    monkeypatch.setenv("DATABASE_URL", node.services.db.url)
    monkeypatch.setenv("CHATKEEP_SECRET", SERVER_SECRET)
    monkeypatch.setenv("PRIMARY_ISSUER", "supabase")
    monkeypatch.setenv("SUPABASE_PROJECT_URL", node.project)
    async with served(app, session) as elsewhere:
        there = elsewhere.but(**ana.client.headers)
        asked = await there.delete("/account")
        assert asked.status == 401
        assert asked.headers["www-authenticate"] == (
            'Bearer error="insufficient_user_authentication", acr_values="aal2", max_age="300"'
        )
        await stepped_up(ana)
        let_in = await elsewhere.but(**ana.client.headers).delete("/account")
        assert (let_in.status, let_in.json) == (200, {"closed": f"embedded:{ana.id}"})
        assert (await there.delete("/account")).status == 401  # the old token is as weak as before


# --- where a second factor is required -----------------------------------------------------------


async def test_required_factor_leaves_a_quarter_of_an_hour(start: StartNode) -> None:
    """Without one, access tokens are short and are not renewed; with one, all is as ever."""
    node = await start(MFA_REQUIRED="everybody")
    ana = await join(node)
    assert ana.session["expires_in"] == 900
    answer = await ana.refresh()
    assert refused(answer) == (400, "session_expired")
    assert "Low AAL" in answer.text
    await stepped_up(ana)
    assert ana.session["expires_in"] == 3600
    assert (await ana.refresh()).status == 200


async def test_anonymous_people_are_asked_for_no_factor(start: StartNode) -> None:
    """They could not have one, and are not signed out for that."""
    node = await start(MFA_REQUIRED="everybody", ANONYMOUS_SIGN_IN="on")
    answer = await node.nobody().post("/auth/v1/signup", {})
    assert answer.json["expires_in"] == 3600
    body = {"refresh_token": answer.json["refresh_token"]}
    refreshed = await node.nobody().post("/auth/v1/token?grant_type=refresh_token", body)
    assert refreshed.status == 200


async def test_factor_required_of_administrators_only(start: StartNode) -> None:
    """`app_metadata` says who is one; what people write about themselves does not."""
    node = await start(MFA_REQUIRED="admins")
    ana, bo = await join(node), await join(node)
    await bo.client.call("PUT", "/auth/v1/user", json={"data": {"role": "admin"}})
    await node.services.db.execute(
        AUTH,
        'update chatkeep.users set app_metadata = app_metadata || \'{"roles": ["admin"]}\''
        " where id = %s",
        (ana.id,),
    )
    assert (await bo.refresh()).status == 200
    assert refused(await ana.refresh()) == (400, "session_expired")


@pytest.mark.parametrize("metadata", ['{"roles": ["owner"]}', '{"role": "editor owner"}'])
async def test_factor_is_required_of_administrators_of_another_name(
    start: StartNode, metadata: str
) -> None:
    """Whoever may administer by `ADMIN_ROLES`, however it is written down, needs a factor."""
    node = await start(MFA_REQUIRED="admins", ADMIN_ROLES="owner")
    ana, bo = await join(node), await join(node)
    for one, said in ((ana, metadata), (bo, '{"roles": ["admin"]}')):
        await node.services.db.execute(
            AUTH, "update chatkeep.users set app_metadata = %s::jsonb where id = %s", (said, one.id)
        )
    assert refused(await ana.refresh()) == (400, "session_expired")
    assert (await bo.refresh()).status == 200


# --- who else hears of it, and who can help ------------------------------------------------------


async def test_owner_is_told_by_mail(ana: Member) -> None:
    """A new factor, recovery codes and a removed factor are each told, and tries are not."""
    app = await stepped_up(ana, "Phone")
    await ana.client.post("/auth/v1/factors/recovery-codes")
    await ana.client.delete(f"/auth/v1/factors/{app.factor_id}")
    told = [(one.kind, one.factor) for one in await mails_to(ana.node, ana.email)]
    assert list(reversed(told)) == [
        ("factor_added", "authenticator app “Phone”"),
        ("factor_added", "recovery codes"),
        ("factor_removed", "authenticator app “Phone”"),
    ]


async def test_administrator_helps_who_lost_the_phone(node: Node, ana: Member, bo: Member) -> None:
    """The secret key lists and removes factors; people do not, and no secret is shown."""
    app = await stepped_up(ana, "Phone")
    await passkey_of(ana)
    server = node.nobody(authorization=f"Bearer {node.services.embedded.supabase_keys.secret}")
    base = f"/auth/v1/admin/users/{ana.id}"
    (listed,) = (await server.get(f"{base}/factors")).json
    assert (listed["id"], listed["friendly_name"]) == (app.factor_id, "Phone")
    assert app.secret not in str(listed)
    (passkey,) = (await server.get(f"{base}/passkeys")).json
    for path in (f"/factors/{app.factor_id}", f"/passkeys/{passkey['id']}"):
        assert refused(await bo.client.delete(base + path)) == (403, "not_admin")
    other = f"/auth/v1/admin/users/{bo.id}"
    foreign = await server.delete(f"{other}/factors/{app.factor_id}")
    assert refused(foreign) == (404, "mfa_factor_not_found")
    foreign = await server.delete(f"{other}/passkeys/{passkey['id']}")
    assert refused(foreign) == (404, "webauthn_credential_not_found")
    nobodys = await server.get(f"/auth/v1/admin/users/{uuid4()}/factors")
    assert refused(nobodys) == (404, "user_not_found")
    removed = await server.delete(f"{base}/factors/{app.factor_id}")
    assert (removed.status, removed.json) == (200, {"id": app.factor_id})
    assert (await server.delete(f"{base}/passkeys/{passkey['id']}")).status == 204
    assert await ana.factors() == []
    assert claims((await ana.refresh()).json)["aal"] == "aal1"
    told = [one.kind for one in await mails_to(node, ana.email)]
    assert told.count("factor_removed") == 2
