"""How a device is called in a person's list of sessions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

# The first that fits: browsers name those they descend from, so descendants come first.
_PROGRAMS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Vivaldi", "Vivaldi"),
    ("FxiOS", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS", "Chrome"),
    ("HeadlessChrome", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
)
_PRODUCT = re.compile(r"[A-Za-z0-9._-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a session is used: a *name* to show, and the network address.

    *bound_to* is what its tokens are to be bound to, see `chatkeep.token_binding`.
    """

    name: str | None = None
    address: str | None = None
    bound_to: str | None = None

    @classmethod
    def of(
        cls, user_agent: str | None, address: str | None, *, bound_to: str | None = None
    ) -> Device:
        """Return the device that a request comes from, as far as it says."""
        plain = _plain_address(address)
        return cls(name=device_name(user_agent or ""), address=plain, bound_to=bound_to)


def device_name(user_agent: str) -> str | None:
    """Return a short name such as "Chrome on Linux".

    Of a stranger nothing but the plain characters of its first word is kept: what a
    request says here is shown to people.
    """
    program = next((name for mark, name in _PROGRAMS if mark in user_agent), None)
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), None)
    if program and system:
        return f"{program} on {system}"
    stranger = _PRODUCT.match(user_agent)
    return program or (stranger.group() if stranger else None)


def _plain_address(text: str | None) -> str | None:
    try:
        return str(ip_address(text.partition("%")[0])) if text else None
    except ValueError:
        return None
