"""Durations as Go writes them, in which Supabase Auth takes the length of a ban."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from chatkeep.administration import LONGEST_BAN, NOT_BANNED
from chatkeep.errors import Invalid

_UNITS: Final = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(h|ms|m|s|us|µs|ns)")
_LONGEST_TEXT: Final = 64


def read_ban(text: str) -> timedelta:
    """Return how long *text* is: "24h", "1h30m", "300ms", or "none" for no ban.

    Raises:
        Invalid: it is no duration, or not more than nothing.
    """
    if text == "none":
        return NOT_BANNED
    parts = list(_PART.finditer(text)) if len(text) <= _LONGEST_TEXT else []
    seconds = sum(float(one[1]) * _UNITS[one[2]] for one in parts)
    if "".join(one[0] for one in parts) != text or seconds <= 0:
        raise Invalid('ban_duration must be a duration like "24h" or "1h30m", or "none"')
    return timedelta(seconds=min(seconds, LONGEST_BAN.total_seconds()))
