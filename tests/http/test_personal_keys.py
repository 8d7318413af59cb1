"""Personal API keys: who makes them, what they reach, and that they end at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
import pytest

from chatkeep.authentication import Presented
from chatkeep.config import Settings
from chatkeep.errors import TokenInvalid
from chatkeep.limits import RATES, Rate
from chatkeep.opening import open_gate
from chatkeep.personal_keys import records, texts
from chatkeep.web.key_access import SCOPES_OF
from tests.gotrue_people import nobody, sign_in, sign_up, signed_in
from tests.http.test_conversations import CHAT, begin, say
from tests.http.test_matrix import PERSONAL, Route
from tests.patience import PATIENCE_S
from tests.postgres_servers import MigratedDatabase, Server
from tests.serving import KEY_SECRET, SERVER_SECRET, until

if TYPE_CHECKING:
    from chatkeep.personal_keys.records import PersonalKey
    from tests.http.conftest import StartNode
    from tests.serving import Answer, Client, Node, Person, Stage

KEYS: Final = "/api/keys"
ALL: Final = ["chat", "models:read", "conversations:read", "conversations:write", "usage:read"]


async def make(owner: Client, *scopes: str, **body: object) -> dict[str, Any]:
    """Make a key of *owner* with *scopes*, or with all."""
    wanted = {"name": "Test", "scopes": list(scopes) or ALL, **body}
    answer = await owner.post(KEYS, wanted)
    assert answer.status == 200, answer.text
    made: dict[str, Any] = answer.json
    return made


def with_key(node: Node, made: dict[str, Any]) -> Client:
    """Return whoever has the key *made*."""
    return node.nobody(authorization=f"Bearer {made['key']}", origin=node.url)


async def kept_of(node: Node, user_id: str) -> list[PersonalKey]:
    """Return the keys of a person as the database has them."""
    return await records.list_own(node.services.db, user_id)


async def key_of(node: Node, owner: Client, *scopes: str) -> Client:
    """Return whoever has a new key of *owner*."""
    return with_key(node, await make(owner, *scopes))


async def works(client: Client) -> bool:
    """Whether a key with the scope models:read is good; it must be refused as one that ended."""
    answer = await client.get("/v1/models")
    if answer.status != 200:
        assert answer.status == 401, answer.text
        assert answer.json["error"]["code"] == "invalid_api_key"
    return answer.status == 200


async def entries(node: Node, action: str, key_id: str) -> list[dict[str, Any]]:
    """Return the entries of the audit log about a key."""
    await node.services.embedded.notices.write()
    from chatkeep import audit  # noqa: PLC0415 -- of this helper alone

    found = await audit.listed(node.services.db, action=action, limit=200)
    return [
        {"outcome": one.outcome, "reason": one.reason, "actor": one.actor, "details": one.details}
        for one in found
        if one.session_id == key_id
    ]


# --- made, listed, revoked ------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_kept_as_a_hash(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """The answer that makes it has it; no list, no row and no entry of the log does."""
    made = await make(ana.client, "chat", name="My script", expires_in_days=30)
    assert texts.is_sound(made["key"])
    listed = await ana.client.get(KEYS)
    (one,) = listed.json["keys"]
    assert one == {name: value for name, value in made.items() if name != "key"}
    assert one["prefix"] == made["key"][:9]
    assert (one["name"], one["scopes"], one["ended_at"]) == ("My script", ["chat"], None)
    assert {scope["name"] for scope in listed.json["scopes"]} == set(ALL)
    secret = made["key"][9:]
    assert secret not in listed.text
    with psycopg.connect(database.admin_url) as admin:
        for table in ("chatkeep.personal_keys", "chatkeep.audit_log"):
            rows = admin.execute(f"select to_jsonb(t)::text from {table} t").fetchall()  # noqa: S608 -- one of those
            assert not any(secret in text for (text,) in rows)
        row = admin.execute(
            "select key_hash from chatkeep.personal_keys where id = %s", [made["id"]]
        ).fetchone()
    assert row == (texts.hash_of(made["key"]),)


async def test_the_same_request_again_makes_no_second_key_and_shows_the_first_no_more(
    ana: Person,
) -> None:
    """What is shown only once is kept nowhere, not even for whoever lost the answer."""
    again = ana.client.but(**{"idempotency-key": "key-of-my-script"})
    wanted = {"name": "My script", "scopes": ["chat"]}
    answers = await asyncio.gather(*(again.post(KEYS, wanted) for _ in range(5)))
    assert sorted(one.status for one in answers) == [200, 409, 409, 409, 409]
    assert {one.json.get("code") for one in answers} == {None, "answer_not_kept"}
    assert len((await ana.client.get(KEYS)).json["keys"]) == 1


async def test_nobody_sees_or_ends_keys_of_others(node: Node, ana: Person, bo: Person) -> None:
    """To Bo, Ana's keys are as if they were not."""
    made = await make(ana.client, "models:read")
    assert (await bo.client.get(KEYS)).json["keys"] == []
    refused = await bo.client.delete(f"{KEYS}/{made['id']}")
    never = await bo.client.delete(f"{KEYS}/{uuid4()}")
    assert refused.status == never.status == 404
    assert refused.json["detail"] == never.json["detail"]
    assert await works(with_key(node, made))


async def test_a_revoked_key_is_refused_at_once_on_every_node(
    node: Node, start: StartNode, ana: Person
) -> None:
    """On the node that revoked it with the next request; on others as soon as they are told."""
    other = await start()
    made = await make(ana.client, "models:read")
    here, there = with_key(node, made), with_key(other, made)
    assert await works(here)
    assert await works(there)
    assert (await ana.client.delete(f"{KEYS}/{made['id']}")).status == 204
    assert not await works(here)

    async def refused() -> bool:
        return not await works(there)

    await until(refused)
    assert (await ana.client.delete(f"{KEYS}/{made['id']}")).status == 404
    (one,) = (await ana.client.get(KEYS)).json["keys"]
    assert one["ended_at"] is not None
    assert one["reason"] == "revoked"


async def test_an_expired_key_is_refused(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """Remembered or not; and the list says when it ended."""
    made = await make(ana.client, "models:read")
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "update chatkeep.personal_keys set expires_at = now() - interval '1 s' where id = %s",
            [made["id"]],
        )
    assert not await works(with_key(node, made))
    (one,) = (await ana.client.get(KEYS)).json["keys"]
    assert one["ended_at"] == one["expires_at"]


async def test_how_many_and_how_long_is_bounded(start: StartNode, ana: Person) -> None:
    """Also when many are asked for at once; what has ended makes room."""
    node = await start(API_KEYS_PER_USER="3", API_KEY_MAX_DAYS="30")
    owner = ana.client.but(url=node.url)
    wanted = {"name": "x", "scopes": ["chat"], "expires_in_days": 30}
    answers = await asyncio.gather(*[owner.post(KEYS, wanted) for _ in range(12)])
    assert sorted(one.status for one in answers) == [200] * 3 + [409] * 9
    refused = next(one for one in answers if one.status == 409)
    assert refused.json["code"] == "too_many_keys"
    kept = (await owner.get(KEYS)).json
    assert (len(kept["keys"]), kept["at_most"], kept["max_days"]) == (3, 3, 30)
    await owner.delete(f"{KEYS}/{kept['keys'][0]['id']}")
    too_long = await owner.post(KEYS, {**wanted, "expires_in_days": 31})
    assert too_long.status == 422
    assert too_long.json["errors"][0]["field"] == "expires_in_days"
    assert (await owner.post(KEYS, wanted)).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": ["chat", "admin"]},
        {"name": "", "scopes": ["chat"]},
        {"name": "x" * 81, "scopes": ["chat"]},
        {"name": "a\nb", "scopes": ["chat"]},
        {"name": "x", "scopes": ["chat"], "expires_in_days": 0},
        {"name": "x", "scopes": ["chat"], "expires_in_days": "30"},
        {"name": "x", "scopes": ["chat"], "expires_in_days": None},
        {"name": "x", "scopes": ["chat"], "user_id": "somebody"},
    ],
)
async def test_unsound_wishes_are_refused(ana: Person, body: dict[str, Any]) -> None:
    """With the field that is wrong, and no key."""
    answer = await ana.client.post(KEYS, body)
    assert answer.status == 422, answer.text
    assert (await ana.client.get(KEYS)).json["keys"] == []


# --- what a key reaches ---------------------------------------------------------------------------


def _call(route: Route, client: Client) -> Any:  # noqa: ANN401 -- the answer, to be awaited
    return route.call(client, "unknown-conversation")


@pytest.mark.parametrize("route", PERSONAL, ids=str)
async def test_a_key_reaches_what_its_scopes_name_and_nothing_else(
    route: Route, node: Node, stage: Stage
) -> None:
    """With all scopes but the right one it is refused; and everywhere that takes no keys."""
    del stage
    owner = node.person().client
    wanted = SCOPES_OF.get((route.method, route.path))
    if wanted is None:
        refused: Answer = await _call(route, await key_of(node, owner))
        assert refused.status in {401, 403}, refused.text
        if not route.path.startswith("/auth/v1"):
            assert "api_key_not_accepted" in refused.text
        return
    for scope in wanted:
        without = await key_of(node, owner, *[one for one in ALL if one != scope])
        refused = await _call(route, without)
        assert refused.status == 403, refused.text
        assert "insufficient_scope" in refused.text
        assert refused.headers["www-authenticate"] == (
            f'Bearer error="insufficient_scope", scope="{scope}"'
        )
    allowed: Answer = await _call(route, await key_of(node, owner, *wanted))
    assert "insufficient_scope" not in allowed.text
    assert allowed.status != 401


async def test_cancelling_is_no_way_to_read_what_was_said_before(
    node: Node, stage: Stage, ana: Person
) -> None:
    """A key for chatting stops what is being made; what has ended it is not shown."""
    gate = asyncio.Event()
    stage.play(["Once ", "upon."], ["Half", gate])
    asking = {"model": "fake/model", "input": "Tell me"}
    ended = await ana.client.post("/v1/responses", asking)
    begun = await ana.client.post("/v1/responses", {**asking, "background": True})
    chatting = await key_of(node, ana.client, "chat")
    cancelling = f"/v1/responses/{ended.json['id']}/cancel"
    refused = await chatting.post(cancelling)
    assert (refused.status, refused.json["error"]["code"]) == (403, "insufficient_scope")
    assert 'scope="conversations:read"' in refused.headers["www-authenticate"]
    assert "upon" not in refused.text
    stopped = await chatting.post(f"/v1/responses/{begun.json['id']}/cancel")
    assert (stopped.status, stopped.json["status"]) == (200, "cancelled")
    for reading in (ana.client, await key_of(node, ana.client, "chat", "conversations:read")):
        shown = await reading.post(cancelling)
        assert (shown.status, shown.json["status"]) == (200, "completed")


async def test_a_key_makes_no_keys_and_changes_no_account(node: Node, ana: Person) -> None:
    """Not with every scope there is, and not at the sign-in service either."""
    client = await key_of(node, ana.client)
    before = await ana.client.get(KEYS)
    attempts = [
        ("POST", KEYS, {"name": "x", "scopes": ["chat"]}),
        ("GET", KEYS, None),
        ("DELETE", f"{KEYS}/{before.json['keys'][0]['id']}", None),
        ("GET", "/api/sessions", None),
        ("POST", "/api/sessions/revoke-all", {}),
        ("PATCH", "/api/settings", {"theme": "dark"}),
        ("GET", "/api/account/data", None),
        ("DELETE", "/api/account/data?confirm=erase", None),
        ("GET", "/api/admin/users", None),
        ("POST", "/api/auth/session", {}),
    ]
    for method, path, body in attempts:
        answer = await client.call(method, path, json=body)
        assert (answer.status, answer.json["code"]) == (403, "api_key_not_accepted"), path
    for method, path in (("GET", "/auth/v1/user"), ("PUT", "/auth/v1/user")):
        answer = await client.call(method, path, json=None if method == "GET" else {"data": {}})
        assert answer.status in {401, 403}, path
    assert (await ana.client.get(KEYS)).json["keys"][0]["ended_at"] is None


async def test_an_administrators_key_administers_nothing(node: Node) -> None:
    """Their role is theirs, for budgets and tools; what administers asks for a session."""
    admin = node.person(app_metadata={"roles": ["admin"]})
    assert (await admin.client.get("/api/admin/users")).status == 200
    key = await key_of(node, admin.client)
    answer = await key.get("/api/admin/users")
    assert (answer.status, answer.json["code"]) == (403, "api_key_not_accepted")


async def test_tokens_are_not_tested_with_keys(node: Node, ana: Person) -> None:
    """What tells whether a token is good says of every key that it is none: no place to guess."""
    made = await make(ana.client)
    for path in ("/api/auth/token/validate", "/api/auth/token/check-expiry"):
        good = await node.nobody().post(path, {"token": made["key"]})
        guessed = await node.nobody().post(path, {"token": texts.new_key()})
        assert good.status == guessed.status
        assert good.json.get("valid") is not True
        without_id = [
            {name: value for name, value in one.json.items() if name != "request_id"}
            for one in (good, guessed)
        ]
        assert without_id[0] == without_id[1]


async def test_a_key_chats_and_reads_as_its_owner(
    node: Node, ana: Person, bo: Person, stage: Stage
) -> None:
    """One conversation, begun over REST with a key, is its owner's; another person's is not."""
    stage.play("Hello, script.")
    client = await key_of(node, ana.client, "chat", "conversations:read")
    conversation = await begin(client)
    await say(client, conversation, "Hello")
    listed = await ana.client.get(CHAT)
    assert conversation in [one["id"] for one in listed.json["conversations"]]
    theirs = await begin(bo.client)
    assert (await client.get(f"{CHAT}/{theirs}")).status == 403
    assert (await client.get(f"{CHAT}/{conversation}")).status == 200


# --- whoever makes one ----------------------------------------------------------------------------


async def test_a_key_is_made_after_a_fresh_sign_in_only(node: Node, start: StartNode) -> None:
    """An old session is asked to sign in again; an operator can do without."""
    import time  # noqa: PLC0415 -- of this test alone

    two_hours_ago = int(time.time()) - 7200
    old = node.person(amr=[{"method": "password", "timestamp": two_hours_ago}])
    wanted = {"name": "x", "scopes": ["chat"]}
    refused = await old.client.post(KEYS, wanted)
    assert (refused.status, refused.json["code"]) == (401, "step_up_required")
    assert 'max_age="3600"' in refused.headers["www-authenticate"]
    unsaid = await node.person(amr=[]).client.post(KEYS, wanted)
    assert unsaid.status == 401
    lenient = await start(API_KEY_SIGN_IN_AGE="0")
    assert (await old.client.but(url=lenient.url).post(KEYS, wanted)).status == 200


async def test_guests_and_names_without_proof_make_none(start: StartNode) -> None:
    """Nobody could sign in again to revoke such a key."""
    node = await start(
        DEVELOPMENT_USER_HEADER="on", ENVIRONMENT="development", ANONYMOUS_SIGN_IN="on"
    )
    guest = node.person(is_anonymous=True)
    wanted = {"name": "x", "scopes": ["chat"]}
    assert (await guest.client.post(KEYS, wanted)).status == 403
    assert (await node.nobody(x_user_id="somebody").post(KEYS, wanted)).status == 403
    session = await nobody(node).post("/auth/v1/signup", {"data": {}})
    assert session.status == 200, session.text
    own_guest = signed_in(node.nobody(), session.json)
    assert (await own_guest.post(KEYS, wanted)).status == 403


async def test_a_second_factor_must_have_been_shown(node: Node, database: MigratedDatabase) -> None:
    """Whoever has one and did not show it gets no key, which would be a way around it."""
    session = await sign_up(nobody(node))
    owner = signed_in(node.nobody(), session)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "insert into chatkeep.factors (user_id, id, factor_type, status)"
            " values (%s, gen_random_uuid(), 'totp', 'verified')",
            [session["user"]["id"]],
        )
    refused = await owner.post(KEYS, {"name": "x", "scopes": ["chat"]})
    assert (refused.status, refused.json["code"]) == (401, "step_up_required")
    assert 'acr_values="aal2"' in refused.headers["www-authenticate"]


# --- what ends keys -------------------------------------------------------------------------------


async def _administer(node: Node) -> Client:
    return node.person(app_metadata={"roles": ["admin"]}).client


async def test_a_ban_refuses_keys_at_once_and_for_good(node: Node, start: StartNode) -> None:
    """On this node with the next request, elsewhere when told; lifting it brings none back."""
    other = await start()
    session = await sign_up(nobody(node))
    owner = signed_in(node.nobody(), session)
    made = await make(owner, "models:read")
    key, there = with_key(node, made), with_key(other, made)
    assert await works(key)
    assert await works(there)
    admin = await _administer(node)
    user_id = node.services.embedded.issuer.user_id(session["user"]["id"])
    assert (await admin.post(f"/api/admin/users/{user_id}/ban", {})).status == 200
    assert not await works(key)

    async def refused() -> bool:
        return not await works(there)

    await until(refused)
    assert (await admin.post(f"/api/admin/users/{user_id}/unban", {})).status == 200
    assert not await works(key)
    again = await sign_in(nobody(node), session["user"]["email"])
    back = signed_in(node.nobody(), again.json)
    (one,) = (await back.get(KEYS)).json["keys"]
    assert one["reason"] == "everything_ended"
    assert await works(with_key(node, await make(back, "models:read")))


async def test_a_deleted_account_leaves_no_key(node: Node, database: MigratedDatabase) -> None:
    """The key is refused at once, and its row is gone."""
    session = await sign_up(nobody(node))
    made = await make(signed_in(node.nobody(), session), "models:read")
    key = with_key(node, made)
    assert await works(key)
    secret = node.services.embedded.supabase_keys.secret
    gone = await node.nobody(authorization=f"Bearer {secret}", apikey=secret).call(
        "DELETE", f"/auth/v1/admin/users/{session['user']['id']}", json={}
    )
    assert gone.status == 200, gone.text
    assert not await works(key)
    with psycopg.connect(database.admin_url) as admin:
        found = admin.execute(
            "select from chatkeep.personal_keys where id = %s", [made["id"]]
        ).fetchall()
    assert found == []


async def test_signing_out_everywhere_ends_keys_and_elsewhere_does_not(
    node: Node, ana: Person
) -> None:
    """`revoke-others` is about devices; `revoke-all` is for whoever fears that something leaked."""
    key = await key_of(node, ana.client, "models:read")
    assert (await ana.client.post("/api/sessions/revoke-others")).status == 200
    assert await works(key)
    assert (await ana.client.post("/api/sessions/revoke-all")).status == 200
    assert not await works(key)
    (one,) = await kept_of(node, ana.id)
    assert one.reason == "everything_ended"


async def test_logging_out_leaves_keys_alone(node: Node) -> None:
    """A script goes on when its owner closes the browser."""
    session = await sign_up(nobody(node))
    owner = signed_in(node.nobody(), session)
    key = await key_of(node, owner, "models:read")
    assert (await owner.post("/auth/v1/logout?scope=local")).status == 204
    assert await works(key)


async def test_forced_out_ends_keys_of_people_of_any_issuer(node: Node, ana: Person) -> None:
    """Also a key that was made a moment before."""
    key = await key_of(node, ana.client, "models:read")
    admin = await _administer(node)
    assert (await admin.post(f"/api/admin/users/{ana.id}/sign-out", {})).status == 200
    assert not await works(key)
    (one,) = await kept_of(node, ana.id)
    assert one.reason == "everything_ended"


async def test_everybody_out_ends_every_key(start: StartNode, postgres: Server) -> None:
    """Those of our own accounts and of other issuers; the lists say so."""
    name = postgres.new_database(template=postgres.migrated_template())
    node = await start(MigratedDatabase(server=postgres, name=name).url)
    ana = node.person()
    own = signed_in(node.nobody(), await sign_up(nobody(node)))
    keys = [await key_of(node, one, "models:read") for one in (ana.client, own)]
    assert [await works(one) for one in keys] == [True, True]
    admin = await _administer(node)
    assert (await admin.post("/api/admin/sign-out-everybody", {})).status == 200
    assert [await works(one) for one in keys] == [False, False]
    (one,) = await kept_of(node, ana.id)
    assert one.reason == "everybody_out"


async def test_a_key_made_while_everything_ended_is_taken_back(
    start: StartNode, postgres: Server
) -> None:
    """Whoever holds on to a stolen session cannot save themselves into a key."""
    name = postgres.new_database(template=postgres.migrated_template())
    database = MigratedDatabase(server=postgres, name=name)
    node = await start(database.url)
    thief = node.person()
    # Everything of the person ends after their session was confirmed, and before the answer.
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "create function end_everything() returns trigger language plpgsql as $$ begin"
            " perform chatkeep.revoke('user', '', new.user_id, now() + interval '2 s',"
            " now() + interval '1 day'); return null; end $$;"
            "create trigger end_everything after insert on chatkeep.personal_keys"
            " for each row execute function end_everything()"
        )
        refused = await thief.client.post(KEYS, {"name": "x", "scopes": ["chat"]})
        assert (refused.status, refused.json["code"]) == (401, "token_revoked")
        assert admin.execute("select from chatkeep.personal_keys").fetchall() == []


async def test_forcing_out_waits_for_nobody_who_holds_a_key(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """Somebody who ends one at the same time waits for the number that forcing out has."""
    made = await make(ana.client, "models:read")
    key = with_key(node, made)
    assert await works(key)
    admin = await _administer(node)
    with psycopg.connect(database.admin_url) as other:
        other.execute(
            "update chatkeep.personal_keys set revoked_at = now() where id = %s", [made["id"]]
        )
        async with asyncio.timeout(PATIENCE_S):
            out = await admin.post(f"/api/admin/users/{ana.id}/sign-out", {})
        assert out.status == 200
        assert not await works(key)
        other.rollback()
    assert not await works(key)


async def test_other_applications_take_no_keys(
    node: Node, ana: Person, database: MigratedDatabase, project: str
) -> None:
    """A guard in front of an application knows nothing of scopes, so it refuses every key."""
    made = await make(ana.client)
    settings = Settings.from_env(
        {
            "DATABASE_URL": database.url,
            "CHATKEEP_SECRET": SERVER_SECRET,
            "SUPABASE_PROJECT_URL": project,
            "SUPABASE_JWT_SECRET": KEY_SECRET.decode(),
        }
    )
    token = ana.client.headers["authorization"]
    async with AsyncExitStack() as stack:
        gate = await open_gate(stack, settings)
        who = await gate.authenticator.identify(Presented(authorization=(token,)))
        assert who is not None
        with pytest.raises(TokenInvalid):
            await gate.authenticator.identify(Presented(authorization=(f"Bearer {made['key']}",)))
    assert await works(with_key(node, made))


async def test_where_a_second_factor_is_required_keys_need_one(
    start: StartNode, postgres: Server
) -> None:
    """Nobody gets around MFA_REQUIRED with a key made before there is a factor."""
    name = postgres.new_database(template=postgres.migrated_template())
    node = await start(MigratedDatabase(server=postgres, name=name).url, MFA_REQUIRED="everybody")
    owner = signed_in(node.nobody(), await sign_up(nobody(node)))
    refused = await owner.post(KEYS, {"name": "x", "scopes": ["chat"]})
    assert (refused.status, refused.json["code"]) == (401, "step_up_required")


async def test_keys_of_an_issuer_that_is_trusted_no_more_are_refused(
    node: Node, start: StartNode, ana: Person
) -> None:
    """Whoever no longer takes an issuer's tokens no longer takes its people's keys."""
    made = await make(ana.client, "models:read")
    without = await start(SUPABASE_PROJECT_URL="", SUPABASE_JWT_SECRET="")
    assert await works(with_key(node, made))
    assert not await works(with_key(without, made))


async def test_export_names_keys_and_erasing_ends_them(node: Node, ana: Person) -> None:
    """The export names keys and has nothing that opens anything; erasing ends them."""
    made = await make(ana.client, "models:read", name="In the export")
    key = with_key(node, made)
    assert await works(key)
    exported = await ana.client.get("/api/account/data")
    (one,) = exported.json["api_keys"]
    assert (one["name"], one["prefix"]) == ("In the export", made["prefix"])
    assert made["key"][9:] not in exported.text
    assert "hash" not in one
    assert (await ana.client.delete("/api/account/data?confirm=erase")).status == 200
    assert not await works(key)
    assert (await ana.client.get(KEYS)).json["keys"] == []


async def test_an_answer_being_streamed_ends_with_its_key(
    node: Node, ana: Person, stage: Stage
) -> None:
    """Who was cut off hears no more, as with a session that ended."""
    gate = asyncio.Event()
    stage.play(["Hel", gate, "lo"])
    made = await make(ana.client, "chat")
    client = with_key(node, made)
    conversation = str(uuid4())
    message = {"role": "user", "parts": [{"type": "text", "text": "x"}]}
    async with client.stream("/api/chat", {"id": conversation, "message": message}) as answer:
        await answer.until(lambda one: one.data["type"] == "text-delta")
        assert (await ana.client.delete(f"{KEYS}/{made['id']}")).status == 204
        rest = await answer.rest()
    gate.set()
    assert "lo" not in [one.data.get("delta") for one in rest if isinstance(one.data, dict)]


# --- costs, guesses, the log ----------------------------------------------------------------------


async def test_a_key_that_is_known_costs_no_question(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """After its first request it is checked in memory, revoked or not."""
    del database
    made = await make(ana.client, "models:read")
    key = with_key(node, made)
    assert await works(key)
    asked: list[str] = []
    records_find = node.services.personal_keys

    class Watched:
        async def fetch(self, *args: object, **_: object) -> list[Any]:
            asked.append(str(args))
            raise AssertionError("a known key was looked up again")

    kept, records_find._db = records_find._db, Watched()  # type: ignore[assignment]
    try:
        for _ in range(5):
            assert await works(key)
    finally:
        records_find._db = kept
    assert asked == []


async def test_guesses_cost_the_guesser_and_never_the_owner(
    start: StartNode, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries an address gets 429 for keys it does not know; the owner's key works on."""
    monkeypatch.setitem(RATES, "api_key", Rate(60, 36_000))
    node = await start(RATE_LIMITS="on", TRUSTED_PROXIES="127.0.0.1")
    made = await make(ana.client.but(url=node.url), "models:read")
    owner = with_key(node, made).but(x_forwarded_for="198.51.100.1")
    assert await works(owner)
    guesser = node.nobody(x_forwarded_for="203.0.113.9")
    statuses = []
    for _ in range(64):
        answer = await guesser.get(
            "/v1/models", headers={"authorization": f"Bearer {texts.new_key()}"}
        )
        statuses.append(answer.status)
    assert statuses[:60] == [401] * 60
    assert statuses[60:] == [429] * 4
    assert await works(owner)
    assert await works(with_key(node, made).but(x_forwarded_for="203.0.113.9"))
    fresh = await make(ana.client.but(url=node.url), "models:read")
    assert await works(with_key(node, fresh).but(x_forwarded_for="198.51.100.1"))


async def test_good_keys_are_no_guesses(start: StartNode, ana: Person) -> None:
    """Looking one up is given back, so a machine with many keys is not counted as a guesser."""
    node = await start(RATE_LIMITS="on", API_KEYS_PER_USER="100")
    made = await make(ana.client.but(url=node.url), "models:read")
    for _ in range(70):
        node.services.personal_keys._remembered.clear()
        assert await works(with_key(node, made))


async def test_mistyped_keys_ask_the_database_nothing(node: Node, ana: Person) -> None:
    """The checksum refuses them, in the words in which every other is refused."""
    made = await make(ana.client, "models:read")
    wrong = made["key"][:-1] + ("A" if made["key"][-1] != "A" else "B")
    finding = node.services.personal_keys

    class Away:
        async def fetch(self, *_: object, **__: object) -> list[Any]:
            raise AssertionError("a mistyped key was looked up")

    kept, finding._db = finding._db, Away()  # type: ignore[assignment]
    try:
        assert not await works(node.nobody(authorization=f"Bearer {wrong}"))
    finally:
        finding._db = kept


async def test_what_happens_to_a_key_is_in_the_log(start: StartNode) -> None:
    """Made, used for the first time (once), refused, revoked: by whom and with which name."""
    node = await start()  # which has noticed nothing yet: of refusals only some are kept
    ana = node.person()
    made = await make(ana.client, "models:read", name="Logged")
    key = with_key(node, made)
    await asyncio.gather(*[works(key) for _ in range(5)])
    assert (await key.get("/api/usage")).status == 403
    await ana.client.delete(f"{KEYS}/{made['id']}")
    (entry,) = await entries(node, "api_key.made", made["id"])
    assert entry["details"]["name"] == "Logged"
    assert entry["actor"] == ana.id
    assert len(await entries(node, "api_key.first_used", made["id"])) == 1
    (refused,) = await entries(node, "api_key.refused", made["id"])
    assert (refused["outcome"], refused["reason"]) == ("refused", "insufficient_scope")
    (ended,) = await entries(node, "api_key.revoked", made["id"])
    assert ended["reason"] == "revoked"


async def test_last_use_is_written_once_a_minute_at_most(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """The list tells it, and a busy key writes nothing more."""
    made = await make(ana.client, "models:read")
    key = with_key(node, made)
    assert (await ana.client.get(KEYS)).json["keys"][0]["last_used_at"] is None
    assert await works(key)
    first = (await ana.client.get(KEYS)).json["keys"][0]["last_used_at"]
    assert first is not None
    assert await works(key)
    assert (await ana.client.get(KEYS)).json["keys"][0]["last_used_at"] == first
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "update chatkeep.personal_keys set last_used_at = now() - interval '2 min'"
            " where id = %s",
            [made["id"]],
        )
    node.services.personal_keys._uses._noted.clear()
    assert await works(key)
    assert (await ana.client.get(KEYS)).json["keys"][0]["last_used_at"] > first


async def test_a_key_is_no_device(node: Node, ana: Person) -> None:
    """Whoever looks where they are signed in sees browsers, not scripts."""
    await ana.client.get("/api/sessions")
    key = await key_of(node, ana.client, "models:read")
    assert await works(key)
    await node.services.sightings.write()
    assert len((await ana.client.get("/api/sessions")).json["sessions"]) == 1


async def test_administrators_list_and_revoke(node: Node, ana: Person, bo: Person) -> None:
    """Keys of a person of any issuer; nobody else may, and nobody is shown a key."""
    made = await make(ana.client, "models:read")
    key = with_key(node, made)
    assert await works(key)
    path = f"/api/admin/users/{ana.id}/keys"
    assert (await bo.client.get(path)).status == 403
    assert (await bo.client.delete(f"{path}/{made['id']}")).status == 403
    admin = await _administer(node)
    listed = await admin.get(path)
    assert [one["id"] for one in listed.json["keys"]] == [made["id"]]
    assert made["key"][9:] not in listed.text
    assert (await admin.delete(f"/api/admin/users/{bo.id}/keys/{made['id']}")).status == 404
    assert (await admin.delete(f"{path}/{made['id']}")).status == 204
    assert not await works(key)
    (ended,) = await entries(node, "api_key.revoked", made["id"])
    assert ended["reason"] == "revoked_by_admin"
    assert ended["actor"] != ana.id


async def test_two_credentials_that_disagree_are_refused(
    node: Node, ana: Person, bo: Person
) -> None:
    """A key beside somebody else's cookie or token is no way to be both."""
    made = await make(ana.client, "models:read")
    bearer = bo.client.headers["authorization"]
    twice = node.nobody(authorization=f"Bearer {made['key']}, {bearer}")
    assert (await twice.get("/v1/models")).status in {400, 401}
    proof = node.nobody(authorization=f"DPoP {made['key']}")
    assert (await proof.get("/v1/models")).status == 401


def test_every_scope_opens_something() -> None:
    """No scope is a promise without a route."""
    assert {one for scopes in SCOPES_OF.values() for one in scopes} == set(ALL)
    assert {("GET", "/v1/models"), ("POST", "/v1/chat/completions")} <= set(SCOPES_OF)
