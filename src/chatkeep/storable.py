"""What comes from elsewhere and could not be stored or read back: NUL characters, deep nesting.

PostgreSQL stores no NUL. Whatever reads or writes nested values is recursive, so a depth that
one part of the program just manages is too much for another, which starts further down the
stack: hence a bound far below either.
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


def is_storable_text(text: str) -> bool:
    """Whether UTF-8 and PostgreSQL can hold *text*: no NUL, and no half of a surrogate pair."""
    if "\x00" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


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
