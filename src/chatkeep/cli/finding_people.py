"""Naming a person on the command line: by the address or the id of an account of ours."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from uuid import UUID

import click

from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from chatkeep.accounts import User
    from chatkeep.issuance import EmbeddedIssuer


_LONGEST_USER_ID: Final = 255


def require_user_id(user: str) -> None:
    """Refuse what is nobody's id at any issuer, given as `--user`; nobody is looked up.

    Raises:
        BadParameter: it is empty or too long, or holds what cannot be shown.
    """
    if not user or len(user) > _LONGEST_USER_ID or not user.isprintable():
        raise click.BadParameter(
            f"must have 1 to {_LONGEST_USER_ID} printable characters", param_hint="--user"
        )


async def person_named(issuer: EmbeddedIssuer, name: str) -> User:
    """Return the account that *name* is the address or the id of.

    Raises:
        SetupError: there is none.
    """
    from chatkeep import accounts  # noqa: PLC0415 -- slow to import
    from chatkeep.errors import EmailAddressInvalid, UserNotFound  # noqa: PLC0415 -- as above

    found: UUID | None = issuer.subject_of(name)
    if found is None:
        with suppress(ValueError):
            found = UUID(name)
    if found is None:
        with suppress(EmailAddressInvalid):
            credential = await accounts.find_credential(issuer.db, accounts.normal_address(name))
            found = credential.id if credential else None
    if found is not None:
        with suppress(UserNotFound):
            return await accounts.get_user(issuer.db, found)
    raise SetupError(f"Nobody has an account with the address or the id {_plain(name)}.")


async def user_id_named(issuer: EmbeddedIssuer, name: str) -> str:
    """Return the id of the person *name*; what is no account of ours is an id of another issuer.

    Raises:
        SetupError: it looks like an address, and nobody has it.
    """
    prefix, colon, _ = name.partition(":")
    if colon and prefix.replace("-", "").isalnum() and issuer.subject_of(name) is None:
        return name
    with suppress(SetupError):
        person = await person_named(issuer, name)
        return issuer.user_id_of(person.id)
    if "@" in name:
        raise SetupError(f"Nobody has an account with the address {_plain(name)}.")
    return name


def _plain(text: str) -> str:
    return "".join(one for one in text[:100] if one.isprintable())
