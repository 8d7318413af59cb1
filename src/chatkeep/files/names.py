"""How a message names a file: by its address, in a part of the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Where a file is read, as messages name it.
ADDRESS: Final = "/api/files/"


def part_of(file_id: str, *, name: str, media_type: str) -> dict[str, Any]:
    """Return a file as part of a message, as the AI SDK shapes it."""
    known = {"type": "file", "mediaType": media_type, "filename": name}
    return {**known, "url": f"{ADDRESS}{file_id}"}


def in_parts(parts: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Return the ids of the files that the parts of a message name."""
    return [found for part in parts or () if (found := file_of(part)) is not None]


def file_of(part: Mapping[str, Any]) -> str | None:
    """Return the id of the file that a part of a message names, None where it names none."""
    url = part.get("url") if part.get("type") == "file" else None
    return url.removeprefix(ADDRESS) if isinstance(url, str) and url.startswith(ADDRESS) else None
