"""The roles that an account has by its `app_metadata`, which only operators write.

Read in this one place: what makes somebody an administrator must also be what asks them for
a second factor. What a role allows is not decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def roles_in(app_metadata: Mapping[str, Any]) -> frozenset[str]:
    """Return the roles that an account's operator-written metadata name."""
    found: set[str] = set()
    for name in ("roles", "role"):
        value = app_metadata.get(name)
        if isinstance(value, str):
            found |= set(value.split())
        elif isinstance(value, list):
            found |= {one for one in value if isinstance(one, str)}
    return frozenset(found)
