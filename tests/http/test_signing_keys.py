"""Keys change under load, on several servers, and nobody is signed out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from chatkeep.db import AUTH
from chatkeep.sessions.cookie_tokens import SessionOwner
from chatkeep.signing_keys import changes
from chatkeep.signing_keys.imported import shared_secret_of
from tests import forge
from tests.serving import SERVER_SECRET, start_node, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import aiohttp

    from chatkeep.signing_keys.changes import Rotation
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

PASSWORD = "Correct-Horse-42-battery"
OURS_ALONE = {"SUPABASE_PROJECT_URL": "", "SUPABASE_JWT_SECRET": ""}
SECRET = SERVER_SECRET.encode()
SHARED = b"the secret of a former issuer: 0123456789abcdef"
WAIT = timedelta(minutes=20)
_numbers = count()


@pytest.fixture(scope="module")
async def nodes(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[list[Node]]:
    """Two servers on one database."""
    started = [await start_node(database.url, session, project, **OURS_ALONE) for _ in range(2)]
    yield started
    for node in started:
        await node.stop()


@pytest.fixture
def who_is_not_told_does_not_look(nodes: list[Node]) -> Iterator[None]:
    """What a server learns of keys meanwhile it was told: it looks by itself in an hour."""
    rings = [node.services.embedded.signing_keys for node in nodes]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("chatkeep.signing_keys.ring._LOOK_EVERY_S", 3600.0)
        for ring in rings:
            ring.told()
        yield
    for ring in rings:
        ring.told()


async def sign_up(node: Node) -> dict[str, Any]:
    """Make somebody new; return what the client is given."""
    key = node.services.embedded.supabase_keys.publishable
    body = {"email": f"rotating-{next(_numbers)}@example.com", "password": PASSWORD}
    answer = await node.nobody(apikey=key).post("/auth/v1/signup", body)
    assert answer.status == 200, answer.text
    return {**answer.json, **body}


async def grant(node: Node, kind: str, body: dict[str, str]) -> Answer:
    """Sign in, or refresh."""
    key = node.services.embedded.supabase_keys.publishable
    return await node.nobody(apikey=key).post(f"/auth/v1/token?grant_type={kind}", body)


def bearer(node: Node, token: str) -> Client:
    """Return who calls *node* with *token*."""
    return node.nobody(authorization=f"Bearer {token}")


def of_the_former_issuer(node: Node, *, kid: str | None = None) -> str:
    """Return a token as the issuer at the same address signed them before."""
    now = int(time.time())
    payload = forge.claims(
        iss=f"{node.services.settings.base_url}/auth/v1",
        sub=str(uuid4()),
        iat=now,
        exp=now + 3600,
        session_id=str(uuid4()),
    )
    header = {"alg": "HS256", "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    return forge.forge(head=header, payload=payload, sign=forge.hmac_signer(SHARED))


async def rotate(node: Node, *, at_once: bool = False) -> Rotation:
    """Do what `chatkeep keys rotate` does, against the database alone."""
    return await changes.rotate(node.services.db, SECRET, wait=WAIT, at_once=at_once)


async def let_time_pass(node: Node) -> None:
    """Move what is published into the past, by more than the wait."""
    await node.services.db.execute(
        AUTH,
        "update chatkeep.signing_keys set created_at = created_at - interval '21 minutes'",
        (),
    )


KINDS = ("refresh", "call", "sign-in", "user", "former", "cookie")


class Load:
    """People who sign in, refresh and call on both servers, until they are told to stop."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.answers: list[tuple[str, int]] = []
        self.stopped = asyncio.Event()
        self.signed_with: set[str] = set()

    def node(self) -> Node:
        """Return one server after the other."""
        return self.nodes[next(_numbers) % len(self.nodes)]

    def note(self, what: str, answer: Answer) -> Answer:
        """Keep how it went."""
        self.answers.append((what, answer.status))
        return answer

    async def person(self) -> None:
        """Refresh at one server, and call with what it gave at both, again and again."""
        known = await sign_up(self.node())
        first, refresh_token = known["access_token"], known["refresh_token"]
        while not self.stopped.is_set():
            body = {"refresh_token": refresh_token}
            fresh = self.note("refresh", await grant(self.node(), "refresh_token", body))
            if fresh.status != 200:
                return
            refresh_token = fresh.json["refresh_token"]
            for token in (fresh.json["access_token"], first):
                for node in self.nodes:
                    self.note("call", await bearer(node, token).get("/api/v1/chat"))

    async def newcomer(self) -> None:
        """Sign in with a password, and be located at the other server."""
        known = await sign_up(self.node())
        while not self.stopped.is_set():
            body = {"email": known["email"], "password": PASSWORD}
            found = self.note("sign-in", await grant(self.node(), "password", body))
            if found.status == 200:
                client = bearer(self.node(), found.json["access_token"])
                self.note("user", await client.get("/auth/v1/user"))

    async def holder(self, what: str, **headers: str) -> None:
        """Call with one credential that never changes."""
        while not self.stopped.is_set():
            client = self.node().nobody(**headers)
            self.note(what, await client.get("/api/v1/chat"))


async def test_from_a_shared_secret_to_our_keys_nobody_is_signed_out(nodes: list[Node]) -> None:
    """Import, publish, wait, rotate, rotate again at once: every request is answered."""
    node, load = nodes[0], Load(nodes)
    await changes.add(node.services.db, shared_secret_of(SHARED, SECRET))
    known = await sign_up(node)
    owner = SessionOwner(
        user_id=known["user"]["id"],
        issuer="embedded",
        subject=known["user"]["id"],
        session_id=UUID(
            (await bearer(node, known["access_token"]).get("/api/sessions")).json["sessions"][0][
                "id"
            ]
        ),
        ends_at=datetime.now(UTC) + timedelta(days=7),
    )
    cookie = await node.services.session_tokens.issue(owner)
    former = of_the_former_issuer(node)
    tasks = [
        *(asyncio.create_task(load.person()) for _ in range(3)),
        asyncio.create_task(load.newcomer()),
        asyncio.create_task(load.holder("former", authorization=f"Bearer {former}")),
        asyncio.create_task(
            load.holder("cookie", cookie=f"{node.services.session_tokens.cookie}={cookie.token}")
        ),
    ]
    kids = {node.services.embedded.signing_keys.current.kid}
    assert (await rotate(node)).ready_at is not None
    await some_more(load)
    await let_time_pass(node)
    kids.add((await rotate(node)).current)
    await some_more(load)
    for _ in range(3):
        kids.add((await rotate(node, at_once=True)).current)
        await some_more(load)
    load.stopped.set()
    await asyncio.gather(*tasks)
    assert {status for _, status in load.answers} == {200}
    assert len(kids) == 5


async def some_more(load: Load) -> None:
    """Let everybody do something more, those too who have to wait for their password."""
    seen = Counter(what for what, _ in load.answers)

    def everybody_did() -> bool:
        now = Counter(what for what, _ in load.answers)
        return now.total() >= seen.total() + 60 and all(now[one] > seen[one] for one in KINDS)

    await until(everybody_did)


async def test_what_a_revoked_key_signed_is_refused_everywhere_at_once(
    nodes: list[Node], who_is_not_told_does_not_look: None
) -> None:
    """Also what was verified before, and the refresh token goes on with a new key."""
    known = await sign_up(nodes[0])
    clients = [bearer(node, known["access_token"]) for node in nodes]
    assert [(await one.get("/api/v1/chat")).status for one in clients] == [200, 200]
    done = await rotate(nodes[0], at_once=True)
    assert [(await one.get("/api/v1/chat")).status for one in clients] == [200, 200]
    await changes.revoke(nodes[0].services.db, str(done.previous))
    for one in clients:
        await until(lambda one=one: _is_refused(one))  # type: ignore[misc]
    body = {"refresh_token": known["refresh_token"]}
    fresh = await grant(nodes[1], "refresh_token", body)
    assert fresh.status == 200
    for node in nodes:
        assert (await bearer(node, fresh.json["access_token"]).get("/api/v1/chat")).status == 200


async def test_a_shared_secret_opens_nothing_else(nodes: list[Node]) -> None:
    """Not under the id of a published key, not for a session cookie, not once it is revoked."""
    node = nodes[0]
    keys = await changes.listed(node.services.db)
    if not any(one.algorithm == "HS256" and one.status == "previous" for one in keys):
        await changes.add(node.services.db, shared_secret_of(SHARED, SECRET))
    token = of_the_former_issuer(node, kid="whatever it was called")
    assert (await bearer(node, token).get("/api/v1/chat")).status == 200
    cookie = node.nobody(cookie=f"{node.services.session_tokens.cookie}={token}")
    assert (await cookie.get("/api/v1/chat")).status == 401
    published = (await node.nobody().get("/auth/v1/.well-known/jwks.json")).json["keys"]
    assert {one["alg"] for one in published} == {"ES256"}
    (shared,) = [
        one.kid
        for one in await changes.listed(node.services.db)
        if one.algorithm == "HS256" and one.status == "previous"
    ]
    await changes.revoke(node.services.db, shared)
    for one in nodes:
        await until(lambda one=one: _is_refused(bearer(one, token)))  # type: ignore[misc]


async def test_the_published_set_is_public_and_kept_for_less_than_the_wait(
    nodes: list[Node],
) -> None:
    """Both servers publish the same keys, the next one too, and say for how long to keep them."""
    done = await rotate(nodes[0], at_once=True)
    rings = [node.services.embedded.signing_keys for node in nodes]
    await until(lambda: all(str(done.standby).encode() in one.jwks for one in rings))
    answers = [await node.nobody().get("/auth/v1/.well-known/jwks.json") for node in nodes]
    assert answers[0].json == answers[1].json
    assert not {"d", "p", "q", "k"} & {name for one in answers[0].json["keys"] for name in one}
    listed = {one.kid: one.status for one in await changes.listed(nodes[0].services.db)}
    statuses = {listed[one["kid"]] for one in answers[0].json["keys"]}
    assert statuses == {"current", "standby", "previous"}
    assert answers[0].headers["cache-control"] == "public, max-age=600"
    assert nodes[0].services.settings.signing_key_wait_s > 600


@pytest.mark.parametrize("algorithm", ["ES256", "HS256"])
async def test_a_flood_of_unknown_keys_asks_the_database_a_few_times_a_second(
    nodes: list[Node], algorithm: str
) -> None:
    """However many there are at once; each is refused, and after a look that began since.

    A shared secret, where there is one, is meant by any id: nobody needs to look for it.
    """
    ring, looks = nodes[0].services.embedded.signing_keys, 0
    look = ring.look

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await look()

    ring.look = counted  # type: ignore[method-assign]
    try:
        began = time.monotonic()
        payload = forge.claims(iss=f"{nodes[0].services.settings.base_url}/auth/v1")
        heads = [{"alg": algorithm, "typ": "JWT", "kid": f"unknown-{one}"} for one in range(200)]
        forged = [forge.forge(head=head, payload=payload, algorithm=algorithm) for head in heads]
        calls = [bearer(nodes[0], token).get("/api/v1/chat") for token in forged]
        assert {answer.status for answer in await asyncio.gather(*calls)} == {401}
        assert looks <= 2 + (time.monotonic() - began) / 0.2
        assert looks > 0 or ring.shared.current() is not None
    finally:
        ring.look = look  # type: ignore[method-assign]


async def _is_refused(client: Client) -> bool:
    return (await client.get("/api/v1/chat")).status == 401
