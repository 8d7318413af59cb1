"""Guessing at an account from everywhere: the guesses are limited, and the owner is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from chatkeep.limits import RATES, Rate
from tests.serving import start_node
from tests.signing_in import PASSWORD, new_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

HOME, HOME_NEXT_DOOR, ABROAD = "2001:db8:1:2::7", "2001:db8:1:2:aaaa::1", "2001:db8:1:3::7"
ALLOWED = 3


@pytest.fixture(scope="module")
async def node(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that limits, behind a proxy that says where its clients are."""
    started = await start_node(
        database.url, session, project, RATE_LIMITS="on", TRUSTED_PROXIES="127.0.0.1"
    )
    yield started
    await started.stop()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates that a test can reach."""
    monkeypatch.setitem(RATES, "account_password", Rate(ALLOWED, 300))


def at(node: Node, address: str) -> Client:
    """Return somebody whose requests come from *address*."""
    return node.nobody(**{"x-forwarded-for": address})


async def sign_up(client: Client) -> str:
    """Make an account and return its address."""
    email = new_address()
    answer = await client.post("/auth/v1/signup", {"email": email, "password": PASSWORD})
    assert answer.status == 200
    return email


async def sign_in(client: Client, email: str, password: str = PASSWORD) -> Answer:
    """Try a password."""
    body = {"email": email, "password": password}
    return await client.post("/auth/v1/token?grant_type=password", body)


async def guess_from_everywhere(node: Node, email: str, times: int) -> list[Answer]:
    """Guess once from each of many networks, all at once."""
    clients = (at(node, f"203.0.113.{number}") for number in range(times))
    guesses = (sign_in(one, email, f"{number}-guess") for number, one in enumerate(clients))
    return list(await asyncio.gather(*guesses))


async def test_botnet_gets_as_many_guesses_as_one_machine(node: Node) -> None:
    """Forty guesses at once from forty networks: a few are answered, the rest must wait."""
    email = await sign_up(at(node, HOME))
    answers = await guess_from_everywhere(node, email, 40)
    assert sorted(one.status for one in answers) == [400] * ALLOWED + [429] * (40 - ALLOWED)
    for refused in (one for one in answers if one.status == 429):
        assert refused.json["error_code"] == "over_request_rate_limit"
        assert 1 <= int(refused.headers["retry-after"]) <= 100


async def test_victim_is_not_locked_out_by_somebody_else(node: Node) -> None:
    """From the network they signed in from they come in, whatever is guessed elsewhere."""
    email = await sign_up(at(node, HOME))
    await guess_from_everywhere(node, email, 20)
    assert (await sign_in(at(node, ABROAD), email)).status == 429
    assert (await sign_in(at(node, HOME), email)).status == 200
    assert (await sign_in(at(node, HOME_NEXT_DOOR), email.upper())).status == 200


async def test_victim_who_signed_out_is_not_locked_out_either(node: Node) -> None:
    """A session that has ended still says from where its owner came."""
    email = await sign_up(at(node, HOME))
    token = (await sign_in(at(node, ABROAD), email)).json["access_token"]
    bearer = at(node, ABROAD).but(authorization=f"Bearer {token}")
    assert (await bearer.post("/auth/v1/logout?scope=global")).status == 204
    await guess_from_everywhere(node, email, 20)
    assert (await sign_in(at(node, ABROAD), email)).status == 200


async def test_network_of_long_ago_is_a_strangers(node: Node, database: MigratedDatabase) -> None:
    """Who was there three months ago may have left it to somebody else."""
    email = await sign_up(at(node, HOME))
    database.operate(
        "update public.user_sessions set created_at = now() - interval '91 days'"
        " where right(user_id, 36) = (select id::text from chatkeep.users where email = %s)",
        email,
    )
    await guess_from_everywhere(node, email, 20)
    assert (await sign_in(at(node, HOME), email)).status == 429


async def test_guesses_from_a_known_network_are_limited_too(node: Node) -> None:
    """A stolen laptop at home has one allowance more, not endless ones."""
    email = await sign_up(at(node, HOME))
    statuses = [
        (await sign_in(at(node, HOME), email, f"{number}-guess")).status for number in range(20)
    ]
    assert statuses == [400] * 2 * ALLOWED + [429] * (20 - 2 * ALLOWED)


async def test_limit_does_not_tell_who_has_an_account(node: Node) -> None:
    """Nobody's address is refused after as many guesses, in the same words."""
    seen = []
    for email in (await sign_up(at(node, HOME)), new_address()):
        answers = [await sign_in(at(node, ABROAD), email, f"{n}-guess") for n in range(6)]
        seen.append([(one.status, one.body) for one in answers])
    assert seen[0] == seen[1]


async def test_right_passwords_are_no_guesses(node: Node) -> None:
    """Whoever signs in on many devices is not limited as an account."""
    email = await sign_up(at(node, HOME))
    assert {(await sign_in(at(node, ABROAD), email)).status for _ in range(4 * ALLOWED)} == {200}


async def test_changing_a_password_is_no_way_around(node: Node) -> None:
    """That it is the same password tells a guesser: no more tries than at sign-in."""
    email = await sign_up(at(node, HOME))
    token = (await sign_in(at(node, HOME), email)).json["access_token"]
    me = at(node, ABROAD).but(authorization=f"Bearer {token}")
    weak = [await me.call("PUT", "/auth/v1/user", json={"password": "x"}) for _ in range(9)]
    assert {one.status for one in weak} == {422}
    said = [await me.call("PUT", "/auth/v1/user", json={"password": PASSWORD}) for _ in range(9)]
    assert [one.status for one in said] == [422] * ALLOWED + [429] * (9 - ALLOWED)
    assert said[-1].json["error_code"] == "over_request_rate_limit"
    assert "retry-after" in said[-1].headers


async def test_refused_stranger_keeps_no_mail_from_the_owner(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often one asks who is refused, the next mail comes for who has the mailbox."""
    monkeypatch.setitem(RATES, "account_mail", Rate(1, 3600))
    monkeypatch.setitem(RATES, "mail_pause", Rate(2, 3600))
    email = await sign_up(at(node, HOME))
    body = {"email": email}
    strangers = [(await at(node, ABROAD).post("/auth/v1/recover", body)).status for _ in range(5)]
    assert strangers == [200] + [429] * 4
    assert (await at(node, HOME).post("/auth/v1/recover", body)).status == 200
    assert (await at(node, HOME).post("/auth/v1/recover", body)).status == 429


# --- by address ---------------------------------------------------------------------------


async def statuses_of(clients: list[Client]) -> list[int]:
    """Ask once for each client whether a token is good."""
    return [(await one.post("/auth/token/validate", {"token": "x.y.z"})).status for one in clients]


async def test_a_whole_net_of_addresses_is_one_bucket(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A /64 is one customer's, however its addresses are spelt (CVE-2026-45364)."""
    monkeypatch.setitem(RATES, "token", Rate(5, 300))
    spellings = [f"2001:db8:7:8::{number:x}" for number in range(5)]
    more = ["2001:0DB8:7:8:0:0:0:1", "[2001:db8:7:8:ffff::9]:443", "2001:db8:7:8::%eth0"]
    assert await statuses_of([at(node, one) for one in spellings]) == [200] * 5
    assert await statuses_of([at(node, one) for one in more]) == [429] * 3
    assert await statuses_of([at(node, "2001:db8:7:9::1")]) == [200]


async def test_ipv4_written_as_ipv6_is_the_same_bucket(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """::ffff:192.0.2.50 in all its spellings is 192.0.2.50."""
    monkeypatch.setitem(RATES, "token", Rate(2, 300))
    assert await statuses_of([at(node, "192.0.2.50")] * 2) == [200] * 2
    mapped = ["::ffff:192.0.2.50", "::FFFF:c000:0232", "192.0.2.50:4711"]
    assert await statuses_of([at(node, one) for one in mapped]) == [429] * 3
    assert await statuses_of([at(node, "::ffff:192.0.2.51")]) == [200]


async def test_forged_forwarding_from_an_untrusted_peer_changes_nothing(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not behind our proxy is counted as who they are, whatever they say."""
    monkeypatch.setitem(RATES, "token", Rate(3, 300))
    node = await start(RATE_LIMITS="on")
    clients = [at(node, f"203.0.113.{number}") for number in range(6)]
    assert await statuses_of(clients) == [200] * 3 + [429] * 3


@pytest.mark.parametrize(
    "path", ["/auth/v1/token?grant_type=refresh_token", "/auth/token/refresh", "/token/refresh"]
)
async def test_refresh_that_comes_too_often_is_busy_not_over(
    node: Node, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """503 with `Retry-After`: a Supabase client throws its session away on a 429."""
    monkeypatch.setitem(RATES, "token", Rate(1, 300))
    client = at(node, f"2001:db8:{len(path):x}::1")
    body = {"refresh_token": "nothing"}
    assert (await client.post(path, body)).status in {400, 401}
    refused = await client.post(path, body)
    assert refused.status == 503
    assert 1 <= int(refused.headers["retry-after"]) <= 300
