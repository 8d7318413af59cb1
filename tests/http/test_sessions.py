"""Where one is signed in: listed, and ended, by whoever it is and by nobody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from chatkeep.sessions.sightings import Sightings
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from chatkeep.principal import Principal
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node

ROUTE = "/api/sessions"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PASSWORD = "Correct-Horse-42"


async def sign_in(node: Node, email: str, **headers: str) -> Client:
    """Return a caller on a device of their own; the first sign-in makes the account."""
    body = {"email": email, "password": PASSWORD}
    device = node.nobody(**headers)
    grant = await device.post("/auth/v1/token?grant_type=password", body)
    if grant.status != 200:
        grant = await device.post("/auth/v1/signup", body)
    return device.but(authorization=f"Bearer {grant.json['access_token']}")


async def listed(client: Client) -> list[dict[str, Any]]:
    """Return what the caller's list says."""
    answer = await client.get(ROUTE)
    assert answer.status == 200
    found: list[dict[str, Any]] = answer.json["sessions"]
    return found


async def works(client: Client) -> bool:
    """Whether the caller is still signed in."""
    return (await client.get("/auth/me")).status == 200


@pytest.fixture
def email() -> str:
    """An address that nobody has yet."""
    return f"{uuid4()}@example.com"


async def test_devices_are_listed_with_the_current_one_marked(node: Node, email: str) -> None:
    """Device, address and times of each, and no token anywhere."""
    here = await sign_in(node, email, user_agent=FIREFOX)
    there = await sign_in(node, email, user_agent="curl/8.5.0")
    found = await listed(here)
    assert {(one["device"], one["current"]) for one in found} == {
        ("Firefox on Linux", True),
        ("curl", False),
    }
    members = {"id", "issuer", "device", "address", "created_at", "last_seen_at", "expires_at"}
    for one in found:
        assert set(one) == members | {"current"}
        assert one["address"] == "127.0.0.1"
        assert one["created_at"] <= one["last_seen_at"] < one["expires_at"]
    assert {one["id"]: one["current"] for one in found} == {
        one["id"]: not one["current"] for one in await listed(there)
    }


async def test_one_session_is_ended_from_another(node: Node, email: str) -> None:
    """It is out at once, can refresh no more, and is gone from the list."""
    here, there = await sign_in(node, email), await sign_in(node, email)
    (other,) = [one["id"] for one in await listed(here) if not one["current"]]
    assert (await here.delete(f"{ROUTE}/{other}")).status == 204
    assert not await works(there)
    assert await works(here)
    assert [one["current"] for one in await listed(here)] == [True]
    assert (await here.delete(f"{ROUTE}/{other}")).status == 404


async def test_foreign_session_looks_like_none(node: Node, email: str) -> None:
    """Somebody else's id and an unknown one are answered the same, and nothing happens."""
    mine, theirs = await sign_in(node, email), await sign_in(node, f"{uuid4()}@example.com")
    (session_id,) = [one["id"] for one in await listed(theirs)]
    foreign = await mine.delete(f"{ROUTE}/{session_id}")
    unknown = await mine.delete(f"{ROUTE}/{uuid4()}")
    strip = ("request_id", "instance")
    bodies = [
        {name: value for name, value in one.json.items() if name not in strip}
        for one in (foreign, unknown)
    ]
    assert foreign.status == unknown.status == 404
    assert bodies[0] == bodies[1]
    assert await works(theirs)
    assert session_id not in [one["id"] for one in await listed(mine)]
    assert (await mine.delete(f"{ROUTE}/no-id")).status == 422


async def test_others_are_ended_and_this_one_stays(node: Node, email: str) -> None:
    """Sessions of one person; another's are left alone."""
    here, *others = [await sign_in(node, email) for _ in range(3)]
    stranger = await sign_in(node, f"{uuid4()}@example.com")
    assert (await here.post(f"{ROUTE}/revoke-others")).json == {"revoked": 2}
    assert [await works(one) for one in (here, *others, stranger)] == [True, False, False, True]


async def test_all_are_ended(node: Node, email: str) -> None:
    """The one that asks, too; signing in again works, within the same second as well."""
    devices = [await sign_in(node, email) for _ in range(2)]
    assert (await devices[0].post(f"{ROUTE}/revoke-all")).json == {"revoked": 2}
    assert [await works(one) for one in devices] == [False, False]
    assert await works(await sign_in(node, email))


async def test_foreign_issuers_session_is_recorded_and_can_be_ended(node: Node) -> None:
    """At first sight; its refreshed tokens are the same session, and refused when it has ended."""
    session_id, person = str(uuid4()), node.person()
    token = {"session_id": session_id, "sub": person.id}
    first = node.person(**token).client.but(user_agent=FIREFOX)
    second = node.person(**token, jti=str(uuid4())).client
    (only,) = await listed(first)
    assert (only["issuer"], only["device"], only["current"]) == (
        "supabase",
        "Firefox on Linux",
        True,
    )
    assert only["id"] != session_id
    assert [one["id"] for one in await listed(second)] == [only["id"]]
    assert len(await listed(person.client)) == 2
    assert (await person.client.delete(f"{ROUTE}/{only['id']}")).status == 204
    assert not await works(first)
    assert not await works(second)
    assert await works(person.client)


async def test_another_person_cannot_take_over_a_recorded_session(node: Node) -> None:
    """The same session id from the same issuer for somebody else records nothing of theirs.

    Also on a server that has seen nobody yet: it moves the session nowhere.
    """
    session_id = str(uuid4())
    mine, theirs = (node.person(session_id=session_id).client for _ in range(2))
    before = await listed(mine)
    assert len(before) == 1
    assert await listed(theirs) == []
    sightings = Sightings(node.services.db)
    sightings.note(await principal_of(node, theirs), user_agent=FIREFOX, address="203.0.113.9")
    await sightings.write()
    assert [one["address"] for one in await listed(mine)] == [one["address"] for one in before]
    sightings = Sightings(node.services.db)
    sightings.note(await principal_of(node, mine), user_agent=FIREFOX, address="203.0.113.9")
    await sightings.write()
    assert [one["address"] for one in await listed(mine)] == ["203.0.113.9"]


async def principal_of(node: Node, client: Client) -> Principal:
    """Return whom the bearer of *client* speaks for."""
    bearer = client.headers["authorization"].removeprefix("Bearer ")
    return await node.services.authenticator.principal_of(bearer)


async def test_activity_is_written_once_a_minute(
    node: Node, database: MigratedDatabase, email: str
) -> None:
    """A thousand requests write nothing more; a minute later one does."""
    client = await sign_in(node, email)
    now = [0.0]
    sightings = Sightings(node.services.db, clock=lambda: now[0])
    principal = await principal_of(node, client)
    with psycopg.connect(database.admin_url, autocommit=True) as connection:

        def last() -> Any:  # noqa: ANN401 -- a moment
            found = connection.execute(
                "select last_activity_at from user_sessions where id = %s", [principal.session_id]
            ).fetchone()
            return found and found[0]

        connection.execute(
            "update user_sessions set last_activity_at = now() - interval '1 hour' where id = %s",
            [principal.session_id],
        )
        old = last()
        for _ in range(1000):
            sightings.note(principal, user_agent=FIREFOX, address="192.0.2.1")
        assert len(sightings._uses._waiting) == 1
        await sightings.write()
        assert last() > old
        connection.execute(
            "update user_sessions set last_activity_at = %s where id = %s",
            [old, principal.session_id],
        )
        sightings.note(principal, user_agent=FIREFOX, address="192.0.2.1")
        await sightings.write()
        assert last() == old
        now[0] = 60
        sightings.note(principal, user_agent=FIREFOX, address="192.0.2.1")
        await sightings.write()
        assert last() > old


async def test_session_has_an_idle_end_an_absolute_end_and_a_maximum_number(
    start: StartNode, database: MigratedDatabase, email: str
) -> None:
    """As the settings say; a sign-in beyond the maximum ends the one used least lately."""
    node = await start(REFRESH_TOKEN_EXPIRY="120000", SESSION_LIFETIME="90", SESSIONS_PER_USER="2")
    first, second, third = [await sign_in(node, email) for _ in range(3)]
    assert [await works(one) for one in (first, second, third)] == [False, True, True]
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        (life,) = connection.execute(
            "select extract(epoch from max(s.expires_at - s.created_at)) from user_sessions s"
            " join chatkeep.users u on s.user_id like '%%' || u.id where u.email = %s",
            [email],
        ).fetchone() or (0,)
    assert float(life) == pytest.approx(90, abs=1)


async def test_whoever_watches_is_told_at_once_that_their_session_ended(
    start: StartNode, email: str
) -> None:
    """On another server too; the one who ended it watches on, until the server stops."""
    node, other_node = await start(), await start()
    here, there = await sign_in(node, email), await sign_in(node, email)
    elsewhere = there.but(url=other_node.url)
    async with (
        elsewhere.stream(f"{ROUTE}/watch", method="GET") as theirs,
        here.stream(f"{ROUTE}/watch", method="GET") as mine,
    ):
        assert (await here.post(f"{ROUTE}/revoke-others")).json == {"revoked": 1}
        async with asyncio.timeout(PATIENCE_S):
            assert [one.name for one in await theirs.rest()] == ["signed_out"]
        node.app.state.begin_shutdown()
        async with asyncio.timeout(PATIENCE_S):
            assert await mine.rest() == []
