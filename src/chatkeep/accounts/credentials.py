"""What a password is checked against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chatkeep.db import AUTH
from chatkeep.errors import UserNotFound

if TYPE_CHECKING:
    from uuid import UUID

    from chatkeep.db import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a password is checked against. *confirmed*: somebody may sign in with it."""

    id: UUID
    password_hash: str | None = field(repr=False)
    confirmed: bool = True


async def find_credential(db: Database, email: str) -> Credential | None:
    """Return what the password for *email* (as kept) is checked against, if anybody has it."""
    found = await db.fetch(
        AUTH,
        "select id, password_hash, email_confirmed_at is not null as confirmed"
        " from chatkeep.users where email = %s",
        (email,),
        row=Credential,
    )
    return found[0] if found else None


async def get_credential(db: Database, user_id: UUID) -> Credential:
    """Return what *user_id*'s password is checked against.

    Raises:
        UserNotFound: there is no such user.
    """
    found = await db.fetch(
        AUTH,
        "select id, password_hash, email_confirmed_at is not null as confirmed"
        " from chatkeep.users where id = %s",
        (user_id,),
        row=Credential,
    )
    if not found:
        raise UserNotFound
    return found[0]
