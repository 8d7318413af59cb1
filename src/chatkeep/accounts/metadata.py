"""What a person may keep about themselves: bounded, because each of their tokens carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from chatkeep.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_METADATA_BYTES: Final = 4096
_NUMBER_LIMIT: Final = 2**63


def storable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return *metadata* as it will come back from the database, if it fits into a token.

    Raises:
        Invalid: it is too large or too deep, or holds a number beyond 64 bits.
    """
    try:
        kept = {name: _written_out(value) for name, value in metadata.items()}
        size = len(msgspec.json.encode(kept))
    except RecursionError as error:
        raise Invalid("User metadata is nested too deeply") from error
    if size > MAX_METADATA_BYTES:
        raise Invalid(f"User metadata must not be longer than {MAX_METADATA_BYTES} bytes")
    return kept


def _written_out(value: object) -> object:
    # PostgreSQL writes 9e18 out in full, and so large a number nobody reads back.
    if isinstance(value, int | float) and abs(value) >= _NUMBER_LIMIT:
        raise Invalid("User metadata must not contain numbers beyond 64 bits")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _written_out(one) for name, one in value.items()}
    return [_written_out(one) for one in value] if isinstance(value, list) else value
