"""A proof of a key is good once on all nodes that share a Redis, and what is left without it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from chatkeep.redis_link import RedisLink
from chatkeep.shared_proofs import SharedProofs
from chatkeep.token_binding import ShownKey
from tests.http.test_token_binding import PASSWORD, Holder
from tests.redis_servers import RedisServer, needs_redis, running_redis
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import StartNode
    from tests.serving import Node

pytestmark = needs_redis

#: What people see of both nodes, which stand behind one address.
ADDRESS = "http://localhost:8765"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis for the tests of this module."""
    with running_redis() as started:
        yield started


@pytest.fixture
async def nodes(start: StartNode, server: RedisServer) -> list[Node]:
    """Two nodes of one address."""
    # The time that a busy machine may take is no outage.
    redis = {"REDIS_URL": server.url, "REDIS_TIMEOUT": "1"}
    found = [await start(PUBLIC_URL=ADDRESS, **redis) for _ in range(2)]
    for node in found:
        await until(partial(is_usable, node))
    return found


async def is_usable(node: Node) -> bool:
    """Whether the node reaches its Redis."""
    return link_of(node).usable


def link_of(node: Node) -> RedisLink:
    """Return the way of *node* to Redis."""
    shared: SharedProofs = node.services.proofs._elsewhere.__self__  # type: ignore[union-attr]
    return shared._link


async def signed_in(node: Node, ana: Holder) -> str:
    """Make an account whose tokens are bound to the key of *ana*; return its access token."""
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    headers = {"dpop": ana.proof("POST", f"{ADDRESS}/auth/v1/signup")}
    answer = await node.nobody().call("POST", "/auth/v1/signup", json=body, headers=headers)
    assert answer.status == 200, answer.text
    access: str = answer.json["access_token"]
    return access


def shown(ana: Holder, access: str) -> dict[str, str]:
    """Return what a request for `/auth/me` is sent with."""
    proof = ana.proof("GET", f"{ADDRESS}/auth/me", access)
    return {"dpop": proof, "authorization": f"DPoP {access}"}


async def test_copy_of_a_request_is_refused_by_every_node(nodes: list[Node]) -> None:
    """Whoever saw a request cannot send it again, wherever the balancer leads."""
    ana = Holder()
    access = await signed_in(nodes[0], ana)
    for first, second in (nodes, nodes[::-1]):
        headers = shown(ana, access)
        assert (await first.nobody(**headers).get("/auth/me")).status == 200
        copy = await second.nobody(**headers).get("/auth/me")
        assert (copy.status, copy.json["code"]) == (401, "token_invalid")
        assert (await second.nobody(**shown(ana, access)).get("/auth/me")).status == 200


async def test_copy_of_a_sign_in_or_refresh_is_refused_by_every_node(nodes: list[Node]) -> None:
    """Proofs without an access token are remembered everywhere too, once per request."""
    ana = Holder()
    email = f"{uuid4()}@example.com"
    headers = {"dpop": ana.proof("POST", f"{ADDRESS}/auth/v1/signup")}
    body = {"email": email, "password": PASSWORD}
    made = await nodes[0].nobody(**headers).post("/auth/v1/signup", body)
    assert made.status == 200, made.text
    copied = {"dpop": ana.proof("POST", f"{ADDRESS}/auth/token/refresh")}
    shown_token = {"refresh_token": made.json["refresh_token"]}
    refreshed = await nodes[0].nobody(**copied).post("/auth/token/refresh", shown_token)
    assert refreshed.status == 200, refreshed.text
    copy = await nodes[1].nobody(**copied).post("/auth/token/refresh", shown_token)
    assert copy.status == 401
    assert (await nodes[1].nobody(**headers).post("/auth/v1/signup", body)).status in {401, 403}


async def test_one_of_many_copies_at_once_is_taken(nodes: list[Node]) -> None:
    """Sent to both nodes at the same moment, one gets an answer."""
    ana = Holder()
    headers = shown(ana, await signed_in(nodes[0], ana))
    sent = (nodes[number % 2].nobody(**headers).get("/auth/me") for number in range(20))
    answers = await asyncio.gather(*sent)
    assert sorted(one.status for one in answers) == [200] + [401] * 19


@pytest.mark.parametrize("way", ["killed", "held up"])
async def test_without_redis_each_node_remembers_its_own(
    nodes: list[Node], server: RedisServer, way: str
) -> None:
    """People go on while it is away; a copy is refused where it was shown."""
    ana = Holder()
    access = await signed_in(nodes[0], ana)
    try:
        if way == "killed":
            server.kill()
        else:
            server.hold_up()
        headers = shown(ana, access)
        assert (await nodes[0].nobody(**headers).get("/auth/me")).status == 200
        assert (await nodes[0].nobody(**headers).get("/auth/me")).status == 401
    finally:
        if way == "killed":
            server.start()
        else:
            server.let_go()
    for node in nodes:
        await until(partial(is_usable, node))
    headers = shown(ana, access)
    assert (await nodes[0].nobody(**headers).get("/auth/me")).status == 200
    assert (await nodes[1].nobody(**headers).get("/auth/me")).status == 401


async def test_store_learns_nobodys_key_and_forgets(server: RedisServer) -> None:
    """Names are digests under the server's secret, and end by themselves."""
    link = RedisLink(server.url, patience_s=2)
    await link.open()
    try:
        one, other = SharedProofs(link, b"k" * 32), SharedProofs(link, b"o" * 32)
        with server.client() as operator:
            operator.flushall()
            key = ShownKey(thumbprint="ana's key", proof_id="7")
            assert await one.is_first(key)
            assert not await one.is_first(key)
            assert await other.is_first(key)  # servers that share nothing else
            names = operator.keys("*")
            assert len(names) == 2
            assert not any(b"ana" in name for name in names)
            assert all(120_000 < operator.pttl(name) <= 240_000 for name in names)
    finally:
        await link.close()
