"""Identifiers: 128 bits, unguessable enough, and ordered by time."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> str:
    """Return a UUID version 7 (RFC 9562 section 5.7) in its canonical text.

    The first 48 bits are milliseconds, so that ids made later sort later and new rows
    land at the end of an index; the rest is random.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))
