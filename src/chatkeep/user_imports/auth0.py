"""People of Auth0: what it exports, one JSON object a line.

The export of users has profiles, the export of password hashes (which its support makes) has
hashes. One file may hold the lines of both; those of the same person are put together.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from chatkeep.user_imports.arrivals import (
    Arrival,
    Identity,
    Skipped,
    id_of,
    mapping,
    moment,
    truth,
    without_rights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chatkeep.user_imports.files import Record

SOURCE = "auth0"
#: What Auth0 calls its own accounts with a password.
_PASSWORD: Final = "auth0"  # noqa: S105 -- a name, not one
#: What signs in with an address here too, by itself: no identity of another provider.
_BY_ADDRESS: Final = (_PASSWORD, "email")
_HASHES: Final = ("passwordHash", "password_hash", "custom_password_hash")
_PROVIDERS: Final = {"google-oauth2": "google"}
_FOR_EVER: Final = datetime.max.replace(tzinfo=UTC)
_PROFILE: Final = {"full_name": "name", "name": "name", "avatar_url": "picture"}


def arrivals(lines: Iterable[Record]) -> Iterator[tuple[str, Arrival | Skipped]]:
    """Put lines of either export together; yields each one's id and who that is, or why not."""
    for original, person in _people(lines).items():
        try:
            yield original, _arrival(original, person)
        except Skipped as reason:
            yield original, reason


def _people(lines: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Return what all lines say of each person; a profile is believed before a line with a hash."""
    people: dict[str, dict[str, Any]] = {}
    hashes: list[tuple[str, dict[str, Any]]] = []
    for line in lines:
        said = {name: value for name, value in line.items() if value is not None}
        if said.get("user_id"):
            people.setdefault(str(said["user_id"]), {}).update(said)
        else:
            hashes.append((_id(said), said))
    owners = {account: one for one, person in people.items() for account in _linked(person)}
    # Somebody's own password comes before that of an account that was linked to theirs.
    for own in (True, False):
        for account, said in hashes:
            owner = account if account in people else owners.get(account, account)
            if (owner == account) is own:
                _add_hash(people.setdefault(owner, {}), said)
    return people


def _add_hash(person: dict[str, Any], said: Record) -> None:
    email, verified = _address(said)
    if person.get("email") in {None, email} and email:
        person.setdefault("email", email)
        person.setdefault("email_verified", verified)
    else:  # it was the way in to another address, of which the profile says nothing
        said = {name: said[name] for name in _HASHES if name in said}
    for name, value in said.items():
        person.setdefault(name, value)


def _address(said: Record) -> tuple[str | None, bool]:
    """Return the address in a line with a hash, and whether it was verified."""
    if said.get("email"):
        return str(said["email"]), truth(said.get("email_verified"))
    listed = said.get("identifiers")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("type") == "email" and one.get("value"):
            return str(one["value"]), truth(one.get("verified"))
    return None, False


def _id(line: Mapping[str, Any]) -> str:
    """Return the id in a line with a hash, as `sub` of Auth0's tokens has it."""
    raw = line.get("alt_id") or line.get("_id")
    found = raw.get("$oid") if isinstance(raw, dict) else raw
    return f"{_PASSWORD}|{found}" if found else ""


def _linked(person: Record) -> Iterator[str]:
    """Yield the accounts with a password that are this person's, as their ids."""
    listed = person.get("identities")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("provider") == _PASSWORD and one.get("user_id"):
            yield f"{_PASSWORD}|{one['user_id']}"


def _arrival(original: str, person: Record) -> Arrival:
    if not person.get("email"):
        raise Skipped("has no e-mail address")
    created = moment(person.get("created_at"))
    known = {name: person.get(theirs) for name, theirs in _PROFILE.items()}
    return Arrival(
        original_id=original,
        id=id_of(original, source=SOURCE),
        email=str(person["email"]),
        email_confirmed_at=(created or datetime.now(UTC))
        if truth(person.get("email_verified"))
        else None,
        password_hash=_hash(person),
        user_metadata={name: value for name, value in known.items() if value}
        | mapping(person.get("user_metadata")),
        app_metadata=without_rights(mapping(person.get("app_metadata"))),
        identities=tuple(_identities(original, person)),
        created_at=created,
        last_sign_in_at=moment(person.get("last_login")),
        banned_until=_FOR_EVER if truth(person.get("blocked")) else None,
    )


def _hash(person: Record) -> str | None:
    custom = person.get("custom_password_hash")
    inner = custom.get("hash") if isinstance(custom, dict) else None
    custom_value = inner.get("value") if isinstance(inner, dict) else None
    found = person.get("passwordHash") or person.get("password_hash") or custom_value
    return str(found) if found else None


def _identities(original: str, person: Record) -> Iterator[Identity]:
    listed = person.get("identities")
    if not isinstance(listed, list):
        provider, _, provider_id = original.partition("|")
        listed = [{"provider": provider, "user_id": provider_id}]
    for one in listed:
        if not isinstance(one, dict) or not one.get("provider") or not one.get("user_id"):
            raise Skipped("has an identity without a provider or an id there")
        provider = str(one["provider"])
        if provider not in _BY_ADDRESS:
            yield Identity(
                provider=_PROVIDERS.get(provider, provider),
                provider_id=str(one["user_id"]),
                data={"sub": str(one["user_id"])},
            )
