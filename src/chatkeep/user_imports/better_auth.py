"""People of Better Auth: its tables `user` and `account`, as JSON or straight from its database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from chatkeep.config.values import Refused, database_url
from chatkeep.errors import SetupError
from chatkeep.user_imports.arrivals import (
    Arrival,
    Identity,
    Skipped,
    each_with,
    id_of,
    moment,
    truth,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chatkeep.user_imports.files import Record

SOURCE = "better-auth"
#: How Better Auth calls an account with a password.
_PASSWORD = "credential"  # noqa: S105 -- a name, not one
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


def read_database(url: str) -> tuple[list[Record], list[Record]]:
    """Return the rows of both tables, as they are at one moment; nothing is written.

    Raises:
        SetupError: the database cannot be reached, or has no such tables to be read.
    """
    try:
        database_url(url)  # else libpq repeats it, with its password
    except Refused as refused:
        raise SetupError(
            f"--database-url {refused}; another database is read from a file."
        ) from None
    try:
        with psycopg.connect(
            url, connect_timeout=5, prepare_threshold=None, client_encoding="UTF8"
        ) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            users = connection.execute('select to_jsonb(u) from public."user" u').fetchall()
            accounts = connection.execute("select to_jsonb(a) from public.account a").fetchall()
            return [row[0] for row in users], [row[0] for row in accounts]
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error).partition("\n")[0]
        raise SetupError(f"The tables of Better Auth cannot be read: {said}.") from error


def arrivals(
    users: Iterable[Record], accounts: Iterable[Record]
) -> Iterator[tuple[str, Arrival | Skipped]]:
    """Read rows of both tables; return each one's id and who that is, or why not."""
    return each_with(users, accounts, owner=lambda one: _of(one, "userId"), arrival=_arrival)


def _arrival(original: str, user: Record, accounts: list[Record]) -> Arrival:
    if truth(_of(user, "isAnonymous")):
        raise Skipped("is anonymous")
    if not user.get("email"):
        raise Skipped("has no e-mail address")
    created = moment(_of(user, "createdAt"))
    known = {
        "full_name": user.get("name"),
        "name": user.get("name"),
        "avatar_url": user.get("image"),
    }
    passwords = [
        str(one.get("password") or "") for one in accounts if _of(one, "providerId") == _PASSWORD
    ]
    return Arrival(
        original_id=original,
        id=id_of(original, source=SOURCE),
        email=str(user["email"]),
        email_confirmed_at=(created or datetime.now(UTC))
        if truth(_of(user, "emailVerified"))
        else None,
        password_hash=next(filter(None, passwords), None),
        user_metadata={name: value for name, value in known.items() if value},
        identities=tuple(_identity(one) for one in accounts if _of(one, "providerId") != _PASSWORD),
        created_at=created,
        banned_until=(moment(_of(user, "banExpires")) or _FOR_EVER)
        if truth(user.get("banned"))
        else None,
    )


def _identity(account: Record) -> Identity:
    provider, provider_id = _of(account, "providerId"), _of(account, "accountId")
    if not provider or not provider_id:
        raise Skipped("has an account without a provider or an id there")
    return Identity(
        provider=str(provider), provider_id=str(provider_id), data={"sub": str(provider_id)}
    )


def _of(row: Record, name: str) -> Any:  # noqa: ANN401 -- a column can be anything
    """Return a column by its name, in either spelling: ORMs write `user_id` for `userId`."""
    if name in row:
        return row[name]
    return row.get("".join(f"_{one.lower()}" if one.isupper() else one for one in name))
