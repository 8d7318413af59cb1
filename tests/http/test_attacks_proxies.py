"""Where a request comes from: only trusted proxies are believed, and only their last word."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from chatkeep.limits import RATES, Rate
from chatkeep.web.clients import Client, TrustedProxies
from tests.serving import exchange, parsed, start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Scope

    from tests.http.conftest import StartNode
    from tests.serving import Node

STRANGER = "203.0.113.9"
PEOPLE = "198.51.100.7"


def came(peer: str, *headers: tuple[str, str]) -> Scope:
    """Return the connection of a request from *peer*."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "client": (peer, 1234), "scheme": "http", "headers": raw}


def client(peer: str, forwarded: str, *, trusted: str = "10.0.0.0/8") -> str:
    """Return the address that is believed."""
    scope = came(peer, ("x-forwarded-for", forwarded))
    return TrustedProxies([trusted, "::1"]).client_of(scope).address


@pytest.mark.parametrize(
    ("forwarded", "believed"),
    [
        (PEOPLE, PEOPLE),
        (f"{STRANGER}, {PEOPLE}", PEOPLE),
        (f"{STRANGER}, {PEOPLE}, 10.1.2.3", PEOPLE),
        (f"{STRANGER},{PEOPLE},10.1.2.3 , 10.1.2.4", PEOPLE),
        (f"{PEOPLE}:4711", PEOPLE),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        (f"::ffff:{PEOPLE}", PEOPLE),
        (f"[::ffff:{PEOPLE}]:80", PEOPLE),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::7%<script>", "2001:db8::7"),
        ("10.1.2.3", "10.1.2.3"),
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        (f"{STRANGER}, unknown", "10.0.0.1"),
        (f"{STRANGER}, _hidden", "10.0.0.1"),
        (f"{STRANGER}, 010.1.2.3", "10.0.0.1"),
        (f"{STRANGER}, 0x7f.1", "10.0.0.1"),
        (f"{STRANGER}, 2130706433", "10.0.0.1"),
        (f"{STRANGER}, localhost", "10.0.0.1"),
        (f"{STRANGER},", "10.0.0.1"),
        (f"{STRANGER}, unknown, 10.9.9.9", "10.9.9.9"),
        (",".join([STRANGER] + ["10.1.2.3"] * 10_000), "10.1.2.3"),
        (",".join([STRANGER] * 10_000 + [PEOPLE]), PEOPLE),
        ("," * 100_000, "10.0.0.1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_last_hop_that_is_no_proxy_is_the_client(forwarded: str, believed: str) -> None:
    """The list is read from its end, so far and no further; what is no address ends it."""
    assert client("10.0.0.1", forwarded) == believed


@pytest.mark.parametrize("peer", [STRANGER, "127.0.0.1", "::ffff:203.0.113.9", "2001:db8::1"])
def test_nobody_else_is_believed(peer: str) -> None:
    """A peer that is no trusted proxy is the client, whatever it says; so is this machine."""
    scope = came(peer, ("x-forwarded-for", PEOPLE), ("x-forwarded-proto", "https"))
    found = TrustedProxies(["10.0.0.0/8"]).client_of(scope)
    assert found == Client(peer.removeprefix("::ffff:"), "http")


def test_mapped_peer_is_the_same_proxy() -> None:
    """An IPv4 proxy on an IPv6 socket is still that proxy."""
    assert client("::ffff:10.0.0.1", PEOPLE) == PEOPLE


def test_several_headers_are_one_list() -> None:
    """The last of several `X-Forwarded-For` or `-Proto` headers is the last word."""
    scope = came(
        "10.0.0.1",
        *(("x-forwarded-for", STRANGER), ("x-forwarded-for", PEOPLE)),
        *(("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")),
    )
    assert TrustedProxies(["10.0.0.0/8"]).client_of(scope) == Client(PEOPLE, "http")


def test_connection_without_an_address_is_unknown() -> None:
    """A socket that has no peer is nobody's, and trusted by nobody."""
    for peer in (None, ("", 0), ("/run/chatkeep.sock", 0)):
        scope = came("x", ("x-forwarded-for", PEOPLE))
        scope["client"] = peer
        assert TrustedProxies(["0.0.0.0/0", "::/0"]).client_of(scope).address == "unknown"


@pytest.mark.parametrize(
    ("addresses", "buckets"),
    [
        (["2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff"], 1),
        (["2001:db8::1", "2001:db8:0:1::1"], 2),
        (["198.51.100.7", "198.51.100.8"], 2),
        (["fe80::1%eth0", "fe80::1%eth1", "fe80::2"], 1),
    ],
)
def test_limits_count_a_customers_network_once(addresses: list[str], buckets: int) -> None:
    """Whoever has a whole /64 of IPv6 is still one, in any spelling."""
    found = {client("10.0.0.1", one) for one in addresses}
    assert len({Client(one, "https").bucket for one in found}) == buckets


# --- through a server ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def behind(
    database: Any,  # noqa: ANN401 -- handed on to start a node
    session: Any,  # noqa: ANN401 -- as above
    project: str,
) -> AsyncIterator[Node]:
    """A node that trusts a proxy on this machine, and one more before it."""
    node = await start_node(database.url, session, project, TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8")
    yield node
    await node.stop()


async def seen(node: Node, caplog: pytest.LogCaptureFixture, *headers: str) -> str:
    """Return which address the log has for a request with *headers*."""
    caplog.set_level(logging.DEBUG, "chatkeep.access")
    lines = ["GET /healthz HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
    answer = parsed(await exchange(node.port, "\r\n".join(lines).encode()))
    assert answer.status == 200
    request_id = answer.headers["x-request-id"]
    (line,) = [one for one in caplog.records if vars(one).get("request_id") == request_id]
    return str(vars(line)["client"])


IGNORED = (
    f"Forwarded: for={STRANGER};proto=https;host=evil.example",
    f"X-Real-IP: {STRANGER}",
    f"X-Client-IP: {STRANGER}",
    f"True-Client-IP: {STRANGER}",
    f"CF-Connecting-IP: {STRANGER}",
    f"X-Cluster-Client-IP: {STRANGER}",
    f"X_Forwarded_For: {STRANGER}",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 1",
)


async def test_other_headers_name_no_client(behind: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Of all the headers that proxies know, two are read, even from a trusted proxy."""
    assert await seen(behind, caplog, *IGNORED) == "127.0.0.1"
    assert await seen(behind, caplog, *IGNORED, f"X-Forwarded-For: {PEOPLE}") == PEOPLE


async def test_stranger_does_not_choose_an_address(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """With no proxy named, this machine is no proxy either."""
    assert await seen(node, caplog, *IGNORED, f"X-Forwarded-For: {PEOPLE}") == "127.0.0.1"


async def test_list_that_fills_the_head_is_bounded(
    behind: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """Thousands of hops are read from the end; more than a head may hold is a 431."""
    long = ",".join(["1.1.1.1"] * 3000 + [PEOPLE])
    assert await seen(behind, caplog, f"X-Forwarded-For: {long}") == PEOPLE
    too_long = f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {'1.1.1.1,' * 10_000}\r\n\r\n"
    assert parsed(await exchange(behind.port, too_long.encode())).status == 431


async def test_forged_address_buys_no_further_try(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger who forges an address for each try is counted as one; so is a whole /64."""
    monkeypatch.setitem(RATES, "token", Rate(RATES["token"].burst, 36_000))
    limited = await start(RATE_LIMITS="on")
    trusting = await start(RATE_LIMITS="on", TRUSTED_PROXIES="127.0.0.1")
    for node, addresses in (
        (limited, (f"203.0.{n // 250}.{n % 250}" for n in range(700))),
        (trusting, (f"2001:db8::{n:x}" for n in range(700))),
    ):
        statuses = set()
        for address in addresses:
            nobody = node.nobody(x_forwarded_for=address)
            statuses.add((await nobody.post("/auth/token/validate", {"token": "x"})).status)
            if 429 in statuses:
                break
        assert 429 in statuses
