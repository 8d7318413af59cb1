"""What of others' JSON cannot be kept, or not be read again: one character, and great depth.

PostgreSQL stores no NUL. Whatever writes or reads what is nested calls itself, so that what one
part of a program could read another one, which begins deeper, can not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Deeper than anybody means it.
DEPTH_AT_MOST: Final = 64
#: The character as JSON writes it: behind pairs of backslashes, which mean one each.
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def has_nul(written: bytes) -> bool:
    """Whether JSON has the character NUL in a text or a name."""
    return _NUL.search(written) is not None


def without_nul(written: bytes) -> bytes:
    """Return JSON without the character NUL."""
    return _NUL.sub(rb"\1", written)


def is_too_deep(value: object) -> bool:
    """Whether objects and lists are nested in *value* more than `DEPTH_AT_MOST` deep."""
    level: list[object] = [value]
    for _ in range(DEPTH_AT_MOST + 1):
        level = [one for outer in level for one in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
