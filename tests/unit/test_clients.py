"""Where a request comes from: forwarded headers count only from trusted proxies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.web.clients import Client, TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:ffff::/48"])


def scope(peer: str | None, *headers: tuple[str, str], scheme: str = "http") -> dict[str, Any]:
    """Return the part of an ASGI scope that says where a request comes from."""
    return {
        "client": None if peer is None else (peer, 1234),
        "scheme": scheme,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }


def forwarded(peer: str, *values: str) -> str:
    """Return the client's address, *values* being the X-Forwarded-For headers."""
    found = PROXIES.client_of(scope(peer, *(("x-forwarded-for", one) for one in values)))
    return found.address


@pytest.mark.parametrize(
    ("peer", "values", "address"),
    [
        ("198.51.100.1", (), "198.51.100.1"),
        ("198.51.100.1", ("203.0.113.9",), "198.51.100.1"),
        ("10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("1.2.3.4, 203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("1.2.3.4", "203.0.113.9"), "203.0.113.9"),
        ("10.0.0.1", ("203.0.113.9, 10.0.0.2, 10.0.0.3",), "203.0.113.9"),
        ("10.0.0.1", ("10.0.0.7",), "10.0.0.7"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("unknown",), "10.0.0.1"),
        ("10.0.0.1", ("203.0.113.9, unknown, 10.0.0.2",), "10.0.0.2"),
        ("10.0.0.1", ("203.0.113.9:4711",), "203.0.113.9"),
        ("10.0.0.1", ("[2001:db8::1]:443",), "2001:db8::1"),
        ("10.0.0.1", ("2001:0DB8:0:0::1",), "2001:db8::1"),
        ("10.0.0.1", ("::ffff:203.0.113.9",), "203.0.113.9"),
        ("::ffff:10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("2001:db8:ffff::1", ("203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", (", ,",), "10.0.0.1"),
        ("10.0.0.1", ("127.0.0.1' or 1=1",), "10.0.0.1"),
    ],
)
def test_client_is_the_rightmost_hop_that_is_no_proxy(
    peer: str, values: tuple[str, ...], address: str
) -> None:
    """From a trusted proxy the rightmost stranger counts, from anybody else the peer."""
    assert forwarded(peer, *values) == address


def test_endless_chain_is_bounded() -> None:
    """Only the nearest hops are looked at, however many are claimed."""
    assert forwarded("10.0.0.1", ", ".join(["203.0.113.9", *["10.0.0.2"] * 10_000])) == "10.0.0.2"


@pytest.mark.parametrize(
    ("peer", "values", "scheme"),
    [
        ("198.51.100.1", ("https",), "http"),
        ("10.0.0.1", ("https",), "https"),
        ("10.0.0.1", ("HTTPS",), "https"),
        ("10.0.0.1", ("http, https",), "https"),
        ("10.0.0.1", ("https, http",), "http"),
        ("10.0.0.1", ("https", "http"), "http"),
        ("10.0.0.1", ("ftp",), "http"),
        ("10.0.0.1", ("",), "http"),
        ("10.0.0.1", (), "http"),
    ],
)
def test_scheme_is_what_the_nearest_proxy_saw(
    peer: str, values: tuple[str, ...], scheme: str
) -> None:
    """The last word of a trusted proxy; anything but http and https is no word."""
    headers = [("x-forwarded-proto", one) for one in values]
    assert PROXIES.client_of(scope(peer, *headers)).scheme == scheme


@pytest.mark.parametrize("peer", [None, "", "not-an-address", "/run/chatkeep.sock"])
def test_peer_without_an_address_is_unknown(peer: str | None) -> None:
    """Behind a Unix socket nobody has an address, and nobody is trusted."""
    client = PROXIES.client_of(scope(peer, ("x-forwarded-for", "203.0.113.9")))
    assert client == Client("unknown", "http")
    assert client.bucket == "unknown"


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:0:7::1", "2001:db8:0:7::/64"),
        ("2001:db8:0:7:ffff::9", "2001:db8:0:7::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_bucket_of_ipv6_is_the_customers_network(address: str, bucket: str) -> None:
    """One customer has 2^64 addresses, which count as one."""
    assert Client(address, "http").bucket == bucket


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=3))
def test_any_header_gives_some_address(values: list[str]) -> None:
    """Whatever is forwarded, there is an address and a bucket for it."""
    headers = [("x-forwarded-for", one) for one in values]
    client = PROXIES.client_of(scope("10.0.0.1", *headers))
    assert client.address
    assert client.bucket


@pytest.mark.parametrize("network", ["", "x", "10.0.0.0/40", "*"])
def test_proxies_must_be_networks(network: str) -> None:
    """Whom to trust is said in addresses and networks."""
    with pytest.raises(ValueError, match="network"):
        TrustedProxies([network])
