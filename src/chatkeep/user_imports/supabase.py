"""People of Supabase Auth: the tables `auth.users` and `auth.identities`, as CSV or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.user_imports.arrivals import (
    Arrival,
    Identity,
    Skipped,
    each_with,
    id_of,
    mapping,
    moment,
    truth,
    without_rights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chatkeep.user_imports.files import Record

SOURCE = "supabase"


def arrivals(
    users: Iterable[Record], identities: Iterable[Record] = ()
) -> Iterator[tuple[str, Arrival | Skipped]]:
    """Read rows of `auth.users`; return each one's id and who that is, or why not."""
    return each_with(users, identities, owner=lambda one: one.get("user_id"), arrival=_arrival)


def _arrival(original: str, user: Record, identities: list[Record]) -> Arrival:
    if "identity_data" in user:
        raise Skipped("is a row of auth.identities, and no person")
    if moment(user.get("deleted_at")):
        raise Skipped("was deleted")
    if truth(user.get("is_anonymous")):
        raise Skipped("is anonymous")
    if not user.get("email"):
        raise Skipped("has no e-mail address")
    confirmed = moment(user.get("email_confirmed_at") or user.get("confirmed_at"))
    return Arrival(
        original_id=original,
        id=id_of(original, source=SOURCE),
        email=str(user["email"]),
        email_confirmed_at=confirmed,
        password_hash=str(user.get("encrypted_password") or "") or None,
        user_metadata=mapping(user.get("raw_user_meta_data")),
        app_metadata=without_rights(mapping(user.get("raw_app_meta_data"))),
        identities=tuple(
            _identity(one) for one in identities if one.get("provider") not in {"email", "phone"}
        ),
        created_at=moment(user.get("created_at")),
        last_sign_in_at=moment(user.get("last_sign_in_at")),
        banned_until=moment(user.get("banned_until")),
    )


def _identity(row: Record) -> Identity:
    data = mapping(row.get("identity_data"))
    # Tables from before 2023 have it as `id`.
    provider_id = row.get("provider_id") or data.get("sub") or row.get("id")
    if not row.get("provider") or not provider_id:
        raise Skipped("has an identity without a provider or an id there")
    return Identity(provider=str(row["provider"]), provider_id=str(provider_id), data=data)
