"""Devices are named so that a person recognises theirs, and nothing else gets through."""

from __future__ import annotations

import pytest

from chatkeep.devices import Device, device_name

WEBKIT = "AppleWebKit/605 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/140.0 Safari/537.36", "Chrome on Linux"),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64) {WEBKIT} Chrome/140.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Firefox on Linux",
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18 like Mac OS X) {WEBKIT} Version/18 Safari",
            "Safari on iPhone",
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/18.5 Safari/605.1",
            "Safari on macOS",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 15) {WEBKIT} Chrome/140.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        ("curl/8.5.0", "curl"),
        ("node", "node"),
        ("python-httpx/0.28.1", "python-httpx"),
        ("", None),
        ("<script>alert(1)</script>", None),
        ("x<script>", "x"),
        ("A" * 5000, "A" * 40),
        ("\u202egnp.exe", None),
    ],
)
def test_device_is_named_by_browser_and_system(user_agent: str, name: str | None) -> None:
    """Browser and system where they are known, else the plain first word, else nothing."""
    assert device_name(user_agent) == name


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", None),
        ("", None),
        (None, None),
        ("192.0.2.1'; drop table", None),
    ],
)
def test_address_is_kept_only_if_it_is_one(sent: str | None, kept: str | None) -> None:
    """What is no address of the network is not kept as one."""
    assert Device.of(None, sent).address == kept
