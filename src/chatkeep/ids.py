"""Identifiers: 128 bits, unguessable enough, and ordered by time."""

from __future__ import annotations

import os
import time


def new_id() -> str:
    """Return a UUID version 7 (RFC 9562 section 5.7) in its canonical text.

    The first 48 bits are milliseconds, so that ids made later sort later and new rows
    land at the end of an index; the rest is random.
    """
    milliseconds = time.time_ns() // 1_000_000 & (2**48 - 1)
    chance = os.urandom(10)
    digits = (milliseconds.to_bytes(6, "big") + chance).hex()
    # By hand: a turn takes four ids, and uuid.UUID twice as long for each.
    version, variant = "7", "89ab"[chance[2] & 3]
    return (
        f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}"
        f"-{variant}{digits[17:20]}-{digits[20:]}"
    )
