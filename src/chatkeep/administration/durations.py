"""Durations as Go writes them: how Supabase Auth and our commands take the length of a ban."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

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
#: More than that is nobody's plan, and dates end.
_LONGEST_S: Final = 1000 * 365 * 86_400


def read_duration(text: str) -> timedelta:
    """Return how long *text* is: "24h", "1h30m", "300ms".

    Raises:
        Invalid: it is no duration, or not more than nothing.
    """
    parts = list(_PART.finditer(text)) if len(text) <= _LONGEST_TEXT else []
    seconds = sum(float(one[1]) * _UNITS[one[2]] for one in parts)
    if "".join(one[0] for one in parts) != text or seconds <= 0:
        raise Invalid('Not a duration like "24h" or "1h30m"')
    return timedelta(seconds=min(seconds, _LONGEST_S))
