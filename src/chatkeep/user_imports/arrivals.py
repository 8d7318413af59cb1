"""One person of an export, in the words of this server.

And what every reader of exports needs: ids, times and JSON as other servers write them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chatkeep.user_imports.files import Record

#: Where ids that are no UUIDs get theirs from: the same one in each run.
_MAPPED_IDS: Final = UUID("5f0f8a52-6f0c-5c6b-9a3d-3f1f2b6f7c11")
#: Members that give rights here. What somebody was allowed elsewhere says nothing of that.
_RIGHTS: Final = ("roles", "role")
_MILLISECONDS: Final = 1e11


class Skipped(Exception):
    """This person cannot be taken in; the text says why, for the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One way in which a person signs in at a provider."""

    provider: str
    provider_id: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Somebody who comes. *original_id* is what they were called; *id* what they will be."""

    original_id: str
    id: UUID
    email: str
    email_confirmed_at: datetime | None = None
    password_hash: str | None = field(default=None, repr=False)
    user_metadata: Mapping[str, Any] = field(default_factory=dict)
    app_metadata: Mapping[str, Any] = field(default_factory=dict)
    identities: tuple[Identity, ...] = ()
    created_at: datetime | None = None
    last_sign_in_at: datetime | None = None
    banned_until: datetime | None = None

    @property
    def is_mapped(self) -> bool:
        """Whether their id had to become another one."""
        return self.original_id.lower() != str(self.id)


def each_with(
    people: Iterable[Record],
    theirs: Iterable[Record],
    *,
    owner: Callable[[Record], Any],
    arrival: Callable[[str, Record, list[Record]], Arrival],
) -> Iterator[tuple[str, Arrival | Skipped]]:
    """Yield the id of each row of *people*, and the *arrival* of it, or why it is none.

    *theirs* are rows of another table, which say their *owner*; each gets its own.
    """
    owned: defaultdict[str, list[Record]] = defaultdict(list)
    for one in theirs:
        owned[str(owner(one))].append(one)
    for person in people:
        original = str(person.get("id") or "")
        try:
            yield original, arrival(original, person, owned[original])
        except Skipped as reason:
            yield original, reason


def id_of(original: str, *, source: str) -> UUID:
    """Return the UUID that *original* is, or the one that stands for it in each run.

    Raises:
        Skipped: there is none.
    """
    if not original:
        raise Skipped("has no id")
    if any("\ud800" <= one <= "\udfff" for one in original):  # half of a surrogate pair
        raise Skipped("has an id that is no text")
    try:
        found = UUID(original)
    except ValueError:
        return uuid5(_MAPPED_IDS, f"{source}:{original}")
    if original.lower() != str(found):  # without dashes, say: nobody would find it again
        return uuid5(_MAPPED_IDS, f"{source}:{original}")
    return found


def without_rights(app_metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return *app_metadata* without what would give rights on this server."""
    return {name: value for name, value in app_metadata.items() if name not in _RIGHTS}


def moment(value: object) -> datetime | None:
    """Return the time that an export writes as *value*, None where it says none.

    Raises:
        Skipped: it is no time.
    """
    if isinstance(value, dict):  # MongoDB's extended JSON, as Auth0 exports it
        value = value.get("$date")
    if value is None or value in ("", "null"):
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS else value, UTC)
        text = str(value).strip()
        if text in {"infinity", "Infinity"}:
            return datetime.max.replace(tzinfo=UTC)
        # psql writes "+00" and a blank, which Python reads from 3.11 on.
        read = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise Skipped("has a time that cannot be read") from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def truth(value: object) -> bool:
    """Whether an export says yes: as JSON does, or as PostgreSQL writes it into CSV."""
    return value is True or str(value).lower() in {"t", "true", "1"}


def mapping(value: object) -> dict[str, Any]:
    """Return the JSON object in *value*, which may be one or its text.

    Raises:
        Skipped: it is something else.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError) as error:
            raise Skipped("has metadata that cannot be read") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Skipped("has metadata that are no JSON object")
    return value
