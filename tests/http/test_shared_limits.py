"""Limits that several nodes share in Redis, and what is left of them when it goes away."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING

import pytest

from chatkeep.config import Settings
from chatkeep.limits import RATES, Limits, Rate, SharedCounts
from chatkeep.metrics import rendered
from chatkeep.redis_link import RedisLink, redis_problem
from chatkeep.setup_checks.doctor import examine_redis
from tests.redis_servers import RedisServer, needs_redis, running_redis
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.http.conftest import StartNode
    from tests.serving import Client, Node

pytestmark = needs_redis

KIND = "token"
BURST = 10

#: How long a request waits for Redis here: no less than a busy machine takes.
PATIENCE_S = 2.0
#: Where it is this process that is held up: a pause of its own is longer.
SHORT_S = 0.5
#: Where one wait is told from two, and from none: nothing else takes as long.
LONG_S = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis for the tests of this module."""
    with running_redis() as started:
        yield started


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates that a test can reach, and that do not refill while it runs."""
    monkeypatch.setitem(RATES, KIND, Rate(BURST, 36_000))
    monkeypatch.setitem(RATES, "account_password", Rate(BURST, 36_000))


@pytest.fixture(autouse=True)
def fresh(server: RedisServer) -> None:
    """Begin with a server that is there and holds nothing."""
    with server.client() as operator:
        operator.flushall()


@pytest.fixture
async def links(server: RedisServer) -> AsyncIterator[list[RedisLink]]:
    """Four processes' ways to it."""
    opened = [RedisLink(server.url, patience_s=PATIENCE_S) for _ in range(4)]
    for link in opened:
        await link.open()
        assert link.usable
    yield opened
    for link in opened:
        await link.close()


def limits_of(links: list[RedisLink]) -> list[Limits]:
    """Return what each of the processes counts with."""
    return [Limits(shared=SharedCounts(link, b"k" * 32)) for link in links]


async def admitted(nodes: list[Limits], times: int, key: str = "a") -> int:
    """Return how many of *times* requests at once, spread over *nodes*, are let in."""
    spent = (nodes[number % len(nodes)].spend(KIND, key) for number in range(times))
    results = await asyncio.gather(*spent, return_exceptions=True)
    return sum(one is None for one in results)


async def test_a_thousand_at_once_over_several_processes(links: list[RedisLink]) -> None:
    """As many are let in by all together as by one."""
    assert await admitted(limits_of(links), 1000) == BURST


async def test_what_is_given_back_is_there_for_all(links: list[RedisLink]) -> None:
    """One that was uncounted on one node can be spent on another."""
    nodes = limits_of(links)
    await admitted(nodes[:1], BURST)
    assert await admitted(nodes[1:], 30) == 0
    await nodes[0].give_back(KIND, "a")
    assert await admitted(nodes[1:], 30) == 1


@pytest.mark.parametrize(
    "garbage", ["nan", "inf", "-inf", "1e999", "x", "", "99999999999999999999999999"]
)
async def test_garbage_under_a_key_counts_as_something_sensible(
    links: list[RedisLink], server: RedisServer, garbage: str
) -> None:
    """It neither lets more in than may nor stops anybody for ever."""
    nodes = limits_of(links)
    await admitted(nodes[:1], 1)
    with server.client() as attacker:
        (key,) = attacker.keys("chatkeep:limit:*")
        attacker.set(key, garbage)
    assert await admitted(nodes, 1000) <= BURST
    with server.client() as attacker:
        assert 0 < attacker.pttl(key) <= 36_000_000


async def test_wrong_type_under_a_key_heals(links: list[RedisLink], server: RedisServer) -> None:
    """A list where a number should be is written over, and nobody falls back."""
    nodes = limits_of(links)
    await admitted(nodes[:1], 1)
    with server.client() as attacker:
        (key,) = attacker.keys("chatkeep:limit:*")
        attacker.delete(key)
        attacker.lpush(key, "no number")
    assert await admitted(nodes, 1000) <= BURST
    assert all(link.usable for link in links)


async def test_flushed_server_opens_no_flood(links: list[RedisLink], server: RedisServer) -> None:
    """Each process remembers what it let in itself."""
    nodes = limits_of(links)
    assert await admitted(nodes, 1000) == BURST
    with server.client() as operator:
        operator.flushall()
        operator.script_flush()
    assert await admitted(nodes, 1000) <= BURST


async def test_keys_tell_no_addresses(links: list[RedisLink], server: RedisServer) -> None:
    """Whoever reads the store learns neither who nor where from."""
    await admitted(limits_of(links), 1, "203.0.113.9")
    with server.client() as reader:
        (key,) = reader.keys("*limit*")
        assert re.fullmatch(rb"chatkeep:limit:[0-9a-f]{32}", key)
        assert b"203.0.113.9" not in reader.get(key)


async def test_killed_and_started_again(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """While it is away each process counts for itself; one line says so, one that it is back."""
    caplog.set_level(logging.INFO, "chatkeep.redis_link")
    link = RedisLink(server.url, patience_s=PATIENCE_S)
    await link.open()
    nodes = limits_of([link])
    server.kill()
    try:
        assert await admitted(nodes, 1000) == BURST
        assert await admitted(nodes, 1000) == 0
        assert await admitted(nodes, 1000, "b") == BURST
    finally:
        server.start()
    assert [one.getMessage()[:13] for one in caplog.records] == ["redis is away"]
    await until(lambda: link.usable)
    assert [one.getMessage()[:18] for one in caplog.records][1:] == ["redis is there aga"]
    assert await admitted(nodes, 1000, "c") == BURST
    await link.close()


async def test_server_that_goes_away_is_said_before_anybody_asks(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator sees it in the metrics and the log, also where nobody is limited just now."""

    def shown(number: int) -> Callable[[], bool]:
        return lambda: f"\nchatkeep_redis_up {number}\n" in rendered()

    link = RedisLink(server.url)
    await link.open()
    await until(shown(1))
    server.kill()
    try:
        await until(shown(0))
        assert [one.message for one in caplog.records] == [
            "redis is away (ConnectionError): going on without it"
        ]
    finally:
        server.start()
    await until(shown(1))
    await link.close()
    assert "\nchatkeep_redis_up " not in rendered()  # where there is none, none is away


async def test_held_up_server_holds_up_nobody(server: RedisServer) -> None:
    """One wait of a moment, and then none at all."""
    link = RedisLink(server.url, patience_s=LONG_S)
    await link.open()
    nodes = limits_of([link])
    server.hold_up()
    loop = asyncio.get_running_loop()
    try:
        began = loop.time()
        assert await admitted(nodes, 100) == BURST
        assert loop.time() - began < 2 * LONG_S
        assert not link.usable
        began = loop.time()
        assert await admitted(nodes, 100, "b") == BURST
        assert loop.time() - began < LONG_S
    finally:
        server.let_go()
        await until(lambda: link.usable)
        await link.close()


async def test_process_that_was_held_up_itself_blames_nobody(server: RedisServer) -> None:
    """Its own pause is no outage of the server, so the count stays that of all."""
    links = [RedisLink(server.url, patience_s=SHORT_S) for _ in range(4)]
    for link in links:
        await link.open()
    nodes = limits_of(links)
    for _ in range(5):
        asking = asyncio.create_task(admitted(nodes, 8, "a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(2 * SHORT_S)  # noqa: ASYNC251 -- nothing else runs meanwhile, as meant
        await asking
    assert all(link.usable for link in links)
    assert await admitted(nodes, 100) == 0
    for link in links:
        await link.close()


async def test_absent_from_the_start(server: RedisServer) -> None:
    """A server that is not there yet is found when it is."""
    server.kill()
    link = RedisLink(server.url)
    await link.open()
    assert not link.usable
    assert await admitted(limits_of([link]), 100) == BURST
    server.start()
    await until(lambda: link.usable)
    await link.close()


# --- as callers meet it ---------------------------------------------------------------------


async def sign_in(client: Client, email: str, password: str = "Correct-Horse-42") -> int:
    """Try a password; return the status."""
    body = {"email": email, "password": password}
    return (await client.post("/auth/v1/token?grant_type=password", body)).status


async def test_nodes_share_the_guesses_at_an_account(start: StartNode, server: RedisServer) -> None:
    """Two nodes let in as many as one."""
    redis = {"REDIS_URL": server.url, "REDIS_TIMEOUT": str(PATIENCE_S)}
    nodes = [await start(RATE_LIMITS="on", **redis) for _ in range(2)]
    guesses = [
        sign_in(node.nobody(), "no@example.com", str(n)) for n in range(20) for node in nodes
    ]
    statuses = await asyncio.gather(*guesses)
    assert sorted(statuses) == [400] * BURST + [429] * (40 - BURST)


async def test_outage_leaves_sign_in_limited_and_reads_alone(
    start: StartNode, server: RedisServer
) -> None:
    """People go on reading and signing in, and guessers stay limited."""
    node: Node = await start(RATE_LIMITS="on", REDIS_URL=server.url)
    email = "ana@example.com"
    body = {"email": email, "password": "Correct-Horse-42"}
    me = (await node.nobody().post("/auth/v1/signup", body)).json["access_token"]
    ana = node.nobody(authorization=f"Bearer {me}")
    server.kill()
    try:
        assert (await ana.get("/api/v1/chat")).status == 200
        assert await sign_in(node.nobody(), email) == 200
        statuses = [await sign_in(node.nobody(), "bo@example.com", str(n)) for n in range(15)]
        assert 429 in statuses
        assert statuses.count(400) <= BURST
        assert (await ana.get("/auth/v1/user")).status == 200
    finally:
        server.start()


async def test_doctor_says_what_is_wrong_with_redis(server: RedisServer) -> None:
    """That it is there, refuses the password, cannot be written to, or is away."""
    fine = await examine_redis(Settings.from_env({"REDIS_URL": server.url}))
    assert fine.is_good
    with server.client() as operator:
        operator.config_set("requirepass", "hunter2")
    said = await examine_redis(Settings.from_env({"REDIS_URL": server.url}))
    wrong = await examine_redis(
        Settings.from_env({"REDIS_URL": server.url.replace("//", "//:wrong@")})
    )
    server.kill()
    away = await examine_redis(Settings.from_env({"REDIS_URL": server.url}))
    server.start()
    with server.client() as operator:
        operator.replicaof("127.0.0.1", 1)
    replica = await examine_redis(Settings.from_env({"REDIS_URL": server.url}))
    with server.client() as operator:
        operator.replicaof("no", "one")
    assert said.problems == ("It refuses the password. Check REDIS_URL.",)
    assert wrong.problems == said.problems
    assert away.problems == ("It cannot be reached. Check REDIS_URL.",)
    assert replica.problems == ("It is a replica, which takes no writes. Check REDIS_URL.",)
    assert (await examine_redis(Settings.from_env({}))).is_good


async def test_encrypted_and_of_whom_one_knows() -> None:
    """`rediss://` wants a certificate of an authority that is trusted, and never goes without."""
    with running_redis(encrypted=True) as server:
        bare = server.url.partition("?")[0]
        assert await redis_problem(server.url) is None
        for url, problem in (
            (bare, "Its certificate is not trusted: self"),
            (server.url.replace("127.0.0.1", "localhost"), "Its certificate is not trusted: Host"),
            (f"{bare}?ssl_ca_certs=/nowhere.pem", "A file that REDIS_URL names is not there."),
        ):
            assert (await redis_problem(url) or "").startswith(problem)
        assert await redis_problem(bare.replace("rediss", "redis")) is not None
        link = RedisLink(server.url)
        await link.open()
        assert await admitted(limits_of([link]), 100) == BURST
        await link.close()
