"""The token in the session cookie: who it signs in, and everything it must not be."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import psycopg
import pytest

from chatkeep import tokens
from chatkeep.claims import STANDARD, Claim, ClaimVersion, ClaimVersions, computed, read_drain
from chatkeep.errors import ClaimsRefused, SessionExpired, SetupError, TokenInvalid, Unavailable
from chatkeep.issuers import Issuers
from chatkeep.sessions.cookie_tokens import AUDIENCE, TYPE, SessionOwner, SessionTokens, cookie_name
from chatkeep.sign_in import password_accounts
from chatkeep.sign_in.password_accounts import Wish
from tests import forge, shop_claims
from tests.command_line import chatkeep
from tests.serving import SERVER_SECRET
from tests.signing_in import DEVICE, PASSWORD, new_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from chatkeep.config import Environment
    from chatkeep.issuance import Grant
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Node

COOKIE = cookie_name(production=False)
STAFF, MAY_READ = frozenset({"staff"}), frozenset({"chat:read"})


@dataclass(frozen=True, slots=True)
class Ana:
    """Somebody who has just signed up, here."""

    grant: Grant
    owner: SessionOwner


@pytest.fixture
async def ana(node: Node) -> Ana:
    """A new person with a session."""
    grant = await password_accounts.sign_up(
        node.services.embedded,
        Wish(email=new_address(), password=PASSWORD, metadata={"role": "staff", "companyId": "x"}),
        DEVICE,
    )
    owner = SessionOwner(
        user_id=node.services.embedded.user_id_of(grant.user.id),
        issuer="embedded",
        subject=str(grant.user.id),
        session_id=grant.session_id,
        ends_at=datetime.now(UTC) + timedelta(days=30),
        email=grant.user.email,
    )
    return Ana(grant, owner)


class Make(Protocol):
    """Makes more of what issues and reads, beside the node's own."""

    def __call__(
        self,
        versions: ClaimVersions = STANDARD,
        *,
        ago: float = 0,
        environment: Environment = "development",
        claims_issue: int | None = None,
    ) -> SessionTokens:
        """Make one whose clock is *ago* seconds late."""


@pytest.fixture
async def make(node: Node) -> AsyncIterator[Make]:
    """What is made is closed after the test."""
    made: list[SessionTokens] = []

    def one(
        versions: ClaimVersions = STANDARD,
        *,
        ago: float = 0,
        environment: Environment = "development",
        claims_issue: int | None = None,
    ) -> SessionTokens:
        settings = replace(
            node.services.settings, environment=environment, claims_issue=claims_issue
        )
        made.append(
            SessionTokens(
                node.services.db,
                settings,
                versions,
                issuer=node.services.embedded.issuer,
                signing_keys=node.services.embedded.signing_keys,
                clock=lambda: time.time() - ago,
            )
        )
        return made[-1]

    yield one
    for each in made:
        await each.close()


def operator_writes(database: MigratedDatabase, ana: Ana, **claims: object) -> None:
    """Write into the account what only an operator can."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "update chatkeep.users set app_metadata = %s::jsonb where id = %s",
            [json.dumps(claims), ana.grant.user.id],
        )


async def count_from_now(node: Node, database: MigratedDatabase) -> None:
    """Forget what other tests of this module made the servers count."""
    await node.services.session_tokens.counts.flush()
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("truncate chatkeep.claim_counts")


async def me(node: Node, cookie: str, **headers: str) -> Answer:
    """Ask who the caller is, with this `Cookie` header."""
    return await node.nobody(cookie=cookie, **headers).get("/auth/me")


def require_refused(answer: Answer, code: str = "token_invalid") -> None:
    """Assert that this is a 401 with *code*."""
    assert (answer.status, answer.json["code"]) == (401, code)


def signed(node: Node, claims: Mapping[str, object], typ: str = TYPE) -> str:
    """Return a token with any *claims*, signed with the server's own key."""
    return tokens.issue(claims, node.services.embedded.signing_keys.current, typ=typ)


def payload(token: str) -> dict[str, Any]:
    """Return what *token* says."""
    return dict(tokens.read(token).claims)


# --- what it is for -----------------------------------------------------------------------------


async def test_cookie_says_who_calls(node: Node, ana: Ana) -> None:
    """Nothing but the cookie is needed, on any route for people."""
    issued = await node.services.session_tokens.issue(ana.owner)
    answer = await me(node, f"theme=dark; {COOKIE}={issued.token}; other=1")
    assert answer.status == 200
    assert answer.json["id"] == ana.owner.user_id
    assert answer.json["email"] == ana.owner.email
    assert answer.json["session_id"] == str(ana.owner.session_id)
    assert answer.json["issuer"] == "embedded"
    listed = await node.nobody(cookie=f"{COOKIE}={issued.token}").get("/api/v1/chat")
    assert listed.json["user_id"] == ana.owner.user_id


async def test_token_says_what_was_promised_and_lives_seven_days(node: Node, ana: Ana) -> None:
    """Never longer than the session, and short enough for a cookie."""
    now = time.time()
    issued = await node.services.session_tokens.issue(ana.owner)
    said = payload(issued.token)
    assert {"userId", "companyId", "role", "email", "environment"} <= said.keys()
    assert {"permissions", "metadata", "version", "oldestReader", "sid", "jti"} <= said.keys()
    assert said["exp"] - said["iat"] == 7 * 86_400
    assert abs(said["iat"] - now) < 10
    assert said["environment"] == "development"
    ends_at = datetime.now(UTC) + timedelta(hours=1)
    short = await node.services.session_tokens.issue(replace(ana.owner, ends_at=ends_at))
    assert short.expires_at == ends_at.replace(microsecond=0)
    assert len(issued.token) + len(cookie_name(production=True)) < 4096
    assert issued.token not in repr(issued)


async def test_role_and_permissions_are_the_operators(
    node: Node, ana: Ana, database: MigratedDatabase
) -> None:
    """What people write about themselves grants nothing."""
    reader = node.services.session_tokens
    principal = await reader.read((await reader.issue(ana.owner)).token)
    assert (principal.roles, principal.scopes) == (frozenset({"user"}), frozenset())
    assert principal.claims["companyId"] is None
    operator_writes(database, ana, role="staff", companyId="acme", permissions=["chat:read"])
    principal = await reader.read((await reader.issue(ana.owner)).token)
    assert (principal.roles, principal.scopes) == (STAFF, MAY_READ)
    assert principal.claims["companyId"] == "acme"
    given = {"metadata": {"role": "admin", "roles": ["admin"], "permissions": ["all"]}}
    principal = await reader.read((await reader.issue(ana.owner, given)).token)
    assert (principal.roles, principal.scopes) == (STAFF, MAY_READ)


@pytest.mark.parametrize("subject", [str(uuid4()), "auth0:5f7c", "ana@example.com"])
async def test_people_of_other_issuers_can_have_one(node: Node, subject: str) -> None:
    """It keeps whose person that is; the database of accounts does not know them."""
    owner = SessionOwner(
        user_id=subject,
        issuer="supabase",
        subject=subject,
        session_id=uuid4(),
        ends_at=datetime.now(UTC) + timedelta(days=1),
    )
    reader = node.services.session_tokens
    principal = await reader.read((await reader.issue(owner)).token)
    assert (principal.user_id, principal.issuer, principal.subject) == (
        subject,
        "supabase",
        subject,
    )
    assert principal.session_id == str(owner.session_id)


# --- what it is never taken for -----------------------------------------------------------------


async def test_session_token_is_no_access_token(node: Node, ana: Ana) -> None:
    """As a bearer it is refused on every surface."""
    token = (await node.services.session_tokens.issue(ana.owner)).token
    bearer = node.nobody(authorization=f"Bearer {token}")
    require_refused(await bearer.get("/auth/me"))
    assert (await bearer.get("/auth/v1/user")).status in {401, 403}
    verdict = await node.nobody().post("/auth/token/validate", {"token": token})
    assert verdict.json["valid"] is False
    with pytest.raises(TokenInvalid):
        await Issuers([node.services.embedded.issuer]).authenticate(token)


async def test_access_token_is_no_session_token(node: Node, ana: Ana) -> None:
    """In the cookie it is refused, whichever of type and audience somebody bent."""
    access = ana.grant.access_token
    require_refused(await me(node, f"{COOKIE}={access}"))
    said = payload(access)
    session = payload((await node.services.session_tokens.issue(ana.owner)).token)
    require_refused(await me(node, f"{COOKIE}={signed(node, said)}"), "token_wrong_audience")
    require_refused(await me(node, f"{COOKIE}={signed(node, {**said, 'aud': AUDIENCE})}"))
    require_refused(await me(node, f"{COOKIE}={signed(node, session, 'JWT')}"))
    other = {**session, "aud": "authenticated"}
    require_refused(await me(node, f"{COOKIE}={signed(node, other)}"), "token_wrong_audience")
    require_refused(await me(node, f"{COOKIE}={ana.grant.refresh_token}"))


async def test_stranger_cannot_sign_one(node: Node, ana: Ana) -> None:
    """Another key, no key, a bent claim."""
    token = (await node.services.session_tokens.issue(ana.owner)).token
    head, body, signature = token.split(".")
    bent = json.dumps({**payload(token), "role": "admin"}).encode()
    kid = tokens.read(token).header.kid
    forged = forge.forge(
        forge.header("ES256", kid=kid, typ=TYPE), payload(token), algorithm="ES256"
    )
    unsigned = forge.segment(forge.text_of({"alg": "none", "typ": TYPE})) + f".{body}."
    for wrong in (forged, unsigned, f"{head}.{forge.segment(bent)}.{signature}", "x", "a.b.c"):
        require_refused(await me(node, f"{COOKIE}={wrong}"))


@pytest.mark.parametrize(
    "change",
    [
        {"sid": None},
        {"sid": "1"},
        {"sid": str(uuid4()).upper()},
        {"sid": 5},
        {"idp": None},
        {"idp": 1},
        {"userId": None},
        {"userId": ""},
        {"userId": 1},
        {"version": "1"},
        {"version": True},
        {"version": 0},
        {"version": 2, "oldestReader": 2},
        {"version": 10**30},
        {"oldestReader": None},
        {"oldestReader": 2},
        {"environment": "production"},
        {"environment": 1},
        {"role": "service_role"},
        {"role": ["user"]},
        {"permissions": "chat:read"},
        {"permissions": [1]},
        {"metadata": []},
        {"email": 1},
        {"other": 1},
        {"user_metadata": {"role": "admin"}},
        {"sub": ""},
        {"exp": None},
    ],
    ids=str,
)
async def test_malformed_claims_are_an_invalid_token(
    node: Node, ana: Ana, change: dict[str, object]
) -> None:
    """Though we signed them: one answer, and never a failure of the server."""
    said = payload((await node.services.session_tokens.issue(ana.owner)).token)
    require_refused(await me(node, f"{COOKIE}={signed(node, {**said, **change})}"))
    if len(change) == 1 and None in change.values():
        gone = {name: value for name, value in said.items() if name not in change}
        answer = await me(node, f"{COOKIE}={signed(node, gone)}")
        assert (answer.status, answer.json["code"][:5]) == (401, "token")


async def test_token_of_another_environment_is_refused(node: Node, ana: Ana, make: Make) -> None:
    """What was made for production signs nobody in elsewhere."""
    elsewhere = make(environment="production")
    token = (await elsewhere.issue(ana.owner)).token
    assert (await elsewhere.read(token)).user_id == ana.owner.user_id
    require_refused(await me(node, f"{COOKIE}={token}"))


# --- when it ends -------------------------------------------------------------------------------


async def test_after_seven_days_one_signs_in_again(node: Node, ana: Ana, make: Make) -> None:
    """Using it does not make it live longer."""
    almost = (await make(ago=7 * 86_400 - 60).issue(ana.owner)).token
    over = (await make(ago=7 * 86_400).issue(ana.owner)).token
    assert (await me(node, f"{COOKIE}={almost}")).status == 200
    require_refused(await me(node, f"{COOKIE}={over}"), "token_expired")
    said = payload(almost)
    longer = signed(node, {**said, "exp": said["exp"] + 86_400})
    require_refused(await me(node, f"{COOKIE}={longer}"))


async def test_ended_session_refuses_its_token_at_once(node: Node, ana: Ana) -> None:
    """Signing out with the access token ends the cookie too."""
    token = (await node.services.session_tokens.issue(ana.owner)).token
    assert (await me(node, f"{COOKIE}={token}")).status == 200
    bearer = node.nobody(authorization=f"Bearer {ana.grant.access_token}")
    assert (await bearer.post("/auth/v1/logout?scope=local")).status == 204
    require_refused(await me(node, f"{COOKIE}={token}"), "token_revoked")


async def test_session_that_has_ended_gets_none(node: Node, ana: Ana) -> None:
    """There is nothing to issue."""
    ended = replace(ana.owner, ends_at=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(SessionExpired):
        await node.services.session_tokens.issue(ended)


# --- one credential, one cookie -----------------------------------------------------------------


async def test_two_cookies_of_the_name_are_refused(node: Node, ana: Ana) -> None:
    """Whichever came first, and the same twice, too: no "first wins"."""
    token = (await node.services.session_tokens.issue(ana.owner)).token
    for other in (token, "x", ""):
        require_refused(await me(node, f"{COOKIE}={token}; {COOKIE}={other}"))
        require_refused(await me(node, f"{COOKIE}={other}; {COOKIE}={token}"))
    require_refused(await me(node, f"{COOKIE}="))


async def test_cookie_of_another_spelling_is_none(node: Node, ana: Ana) -> None:
    """Nameless, quoted, other case, the name of production, a path in front: nobody."""
    token = (await node.services.session_tokens.issue(ana.owner)).token
    for cookie in (
        f"={COOKIE}={token}",
        f'{COOKIE}="{token}"',
        f"{COOKIE.upper()}={token}",
        f"{COOKIE} ={token}",
        f"__Host-{COOKIE}={token}",
        f"__Secure-{COOKIE}={token}",
        f"{COOKIE}={token} ; {COOKIE}".replace(token, f'{token}"'),
    ):
        require_refused(await me(node, cookie), "unauthenticated")


async def test_cookie_and_bearer_must_name_the_same_person(node: Node, ana: Ana) -> None:
    """One person twice is one person; two are refused."""
    token = (await node.services.session_tokens.issue(ana.owner)).token
    both = await me(node, f"{COOKIE}={token}", authorization=f"Bearer {ana.grant.access_token}")
    assert (both.status, both.json["id"]) == (200, ana.owner.user_id)
    stranger = node.person().client.headers["authorization"]
    mixed = await me(node, f"{COOKIE}={token}", authorization=stranger)
    assert (mixed.status, mixed.json["code"]) == (400, "credentials_conflict")
    require_refused(await me(node, f"{COOKIE}=x", authorization=stranger))


async def test_production_reads_the_host_cookie_only(start: StartNode, ana: Ana) -> None:
    """A cookie that a sub-domain or plain HTTP could plant is not looked at."""
    node = await start(
        ENVIRONMENT="production",
        PUBLIC_URL="https://chat.example",
        TRUSTED_PROXIES="127.0.0.1",
        SUPABASE_PROJECT_URL="https://project.example",
        RATE_LIMITS="on",
    )
    token = (await node.services.session_tokens.issue(ana.owner)).token
    https = {"host": "chat.example", "x_forwarded_proto": "https", "x_forwarded_for": "192.0.2.1"}
    answer = await me(node, f"__Host-{COOKIE}={token}", **https)
    assert (answer.status, answer.json.get("id")) == (200, ana.owner.user_id)
    require_refused(await me(node, f"{COOKIE}={token}", **https), "unauthenticated")


# --- what is not put into one -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"metadata": {"apiKey": "x"}}, "metadata.apiKey sounds like a secret"),
        ({"metadata": {"note": "4111 1111 1111 1111"}}, "metadata.note looks like the number"),
        ({"metadata": {"bits": [2**60]}}, "beyond what JSON keeps"),
        ({"metadata": {"blob": "a b " * 1000}}, "a browser takes 3900"),
        ({"metadata": {"blob": "a b " * 3000}}, "too large"),
        ({"metadata": {"half": "\ud800"}}, "JSON cannot"),
        ({"metadata": {"what": object()}}, "JSON cannot"),
        ({"metadata": "text"}, "claim metadata does not fit"),
        ({"role": "service_role"}, "one that no person has"),
        ({"salutation": "Dr"}, "has no claim salutation"),
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
async def test_what_no_token_may_hold_is_refused(
    node: Node, ana: Ana, claims: dict[str, object], problem: str
) -> None:
    """When it would be issued, naming the claim."""
    with pytest.raises(ClaimsRefused, match=problem):
        await node.services.session_tokens.issue(ana.owner, claims)


async def test_nobody_is_somebody_else(node: Node, ana: Ana) -> None:
    """Who it is for, and where it is good, is not for the caller to say."""
    lies = {"userId": "bo", "environment": "production", "email": "bo@example.com"}
    token = (await node.services.session_tokens.issue(ana.owner, lies)).token
    said = payload(token)
    assert (said["userId"], said["email"]) == (ana.owner.user_id, ana.owner.email)
    assert said["environment"] == "development"


async def test_claim_without_a_fill_must_be_given(ana: Ana, make: Make) -> None:
    """What only the sign-in knows: which of their companies somebody came for."""
    first = ClaimVersion(1, added=(Claim("userId"), Claim("companyId")))
    later = Claim("companyId", fill=computed(lambda said: f"{said['companyId']}!"))
    shop = make(ClaimVersions((first, ClaimVersion(2, added=(later,)))))
    with pytest.raises(ClaimsRefused, match="companyId is not given"):
        await shop.issue(ana.owner)
    token = (await shop.issue(ana.owner, {"companyId": "acme"})).token
    assert (await shop.read(token)).claims["companyId"] == "acme"


@pytest.mark.parametrize("wanted", [0, 2, 9999])
async def test_version_that_is_not_declared_cannot_be_issued(make: Make, wanted: int) -> None:
    """The start is refused."""
    with pytest.raises(SetupError, match=f"CLAIMS_ISSUE is {wanted}"):
        make(claims_issue=wanted)


async def test_person_who_is_gone_gets_none(node: Node, ana: Ana, make: Make) -> None:
    """Where the declaration has no answer for people the database does not know."""
    nobody = replace(ana.owner, user_id="embedded:" + str(uuid4()))
    with pytest.raises(ClaimsRefused, match="not known"):
        await make(shop_claims.second).issue(nobody)


# --- claims that change -------------------------------------------------------------------------


async def test_two_releases_run_side_by_side(
    start: StartNode, ana: Ana, database: MigratedDatabase
) -> None:
    """Rolled out, switched over, rolled back: each step with the tokens of the others."""
    operator_writes(database, ana, companyId="acme", role="staff")
    old = await start(CLAIMS="tests.shop_claims:first")
    new = await start(CLAIMS="tests.shop_claims:second", CLAIMS_ISSUE="1")
    newest = await start(CLAIMS="tests.shop_claims:second")
    adding = await start(CLAIMS="tests.shop_claims:third")
    issued = [
        (await node.services.session_tokens.issue(ana.owner)).token
        for node in (old, new, newest, adding)
    ]
    versions = [payload(token)["version"] for token in issued]
    assert versions == [1, 1, 2, 3]
    assert [payload(token)["oldestReader"] for token in issued] == [1, 1, 2, 2]
    for reader, taken in ((old, 2), (new, 4), (newest, 4), (adding, 4)):
        answers = [await me(reader, f"{COOKIE}={token}") for token in issued]
        assert [one.status for one in answers] == [200] * taken + [401] * (4 - taken)
    for token in issued:
        claims = (await adding.services.session_tokens.read(token)).claims
        assert (claims["companyId"], claims["role"]) == ("acme", "staff")
        assert (claims["isStaff"], claims["plan"]) == (True, "free")


async def test_old_token_of_somebody_who_is_gone_is_invalid(ana: Ana, make: Make) -> None:
    """Nothing is made up for an account that was deleted."""
    gone = replace(ana.owner, user_id=f"embedded:{uuid4()}")
    token = (await make(shop_claims.first).issue(gone)).token
    with pytest.raises(TokenInvalid):
        await make(shop_claims.second).read(token)


async def test_role_that_no_person_has_is_not_filled(
    ana: Ana, make: Make, database: MigratedDatabase
) -> None:
    """Whatever the database says: a cookie speaks for a person."""
    token = (await make(shop_claims.first).issue(ana.owner)).token
    operator_writes(database, ana, companyId="acme", role="service_role")
    with pytest.raises(TokenInvalid):
        await make(shop_claims.second).read(token)
    operator_writes(database, ana, companyId="acme", role=["user"])
    with pytest.raises(Unavailable):
        await make(shop_claims.second).read(token)


async def test_thousand_old_tokens_of_one_user_cost_one_read(
    node: Node,
    ana: Ana,
    make: Make,
    database: MigratedDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand devices at the same moment: one query, and the counts say so."""
    operator_writes(database, ana, companyId="acme")
    await count_from_now(node, database)
    before, after = make(shop_claims.first), make(shop_claims.third)
    old = [(await before.issue(ana.owner)).token for _ in range(1000)]
    assert len(set(old)) == 1000
    asked: list[str] = []
    fetch = node.services.db.fetch

    async def recorded(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 -- handed on
        asked.append(arguments[1])
        return await fetch(*arguments, **more)

    monkeypatch.setattr(node.services.db, "fetch", recorded)
    read = await asyncio.gather(*[after.read(token) for token in old])
    monkeypatch.undo()
    assert len([one for one in asked if "chatkeep.users" in one]) == 1
    assert {one.claims["companyId"] for one in read} == {"acme"}
    await before.counts.flush()
    await after.counts.flush()
    drain = await read_drain(node.services.db, shop_claims.third)
    first = drain.versions[0]
    assert (first.version, first.tokens, first.reads, first.issued) == (1, 1000, 1, 1000)
    assert {one.claim: (one.tokens, one.reads) for one in first.claims} == {
        "companyId": (1000, 1),
        "role": (1000, 1),
        "permissions": (1000, 1),
        "isStaff": (1000, 0),
        "plan": (1000, 0),
    }


async def test_command_says_what_the_servers_counted(
    node: Node, start: StartNode, ana: Ana, database: MigratedDatabase, tmp_path: Path
) -> None:
    """`chatkeep claims` shows old tokens that a server met, and the date of their end."""
    await count_from_now(node, database)
    operator_writes(database, ana, companyId="acme")
    old = await start(CLAIMS="tests.shop_claims:first")
    new = await start(CLAIMS="tests.shop_claims:second")
    issued = await old.services.session_tokens.issue(ana.owner)
    for _ in range(3):
        assert (await me(new, f"{COOKIE}={issued.token}")).status == 200
    await old.stop()
    await new.stop()
    # Alone: beside it is a package `http`, which is also one of Python's own.
    shutil.copy(shop_claims.__file__, tmp_path)
    settings = {
        "DATABASE_URL": database.url,
        "CHATKEEP_SECRET": SERVER_SECRET,
        "CLAIMS": "shop_claims:second",
        "PYTHONPATH": str(tmp_path),
    }
    done = await chatkeep("claims", "--json", cwd=tmp_path, settings=settings)
    assert done.code == 0, done.err
    drain = json.loads(done.out)
    (version, current) = drain["versions"]
    assert (version["tokens"], version["reads"], version["issued"]) == (3, 1, 1)
    assert current["state"] == "current"
    ends = datetime.fromisoformat(drain["fallback_ends_at"])
    assert ends == issued.expires_at
    said = await chatkeep("claims", cwd=tmp_path, settings=settings)
    assert f"after {ends:%Y-%m-%d %H:%M} UTC" in said.out
