"""A person as requests name them, and a caller as answers show them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import Path

from chatkeep import accounts
from chatkeep.db import AUTH
from chatkeep.issuers.issuer import shown_text
from chatkeep.tokens import MAX_IDENTIFIER_LENGTH
from chatkeep.web.schemas import PersonAnswer

if TYPE_CHECKING:
    from chatkeep.principal import Principal
    from chatkeep.web.services import Services

#: An issuer's name, a colon, and what that issuer calls the person.
LONGEST_USER_ID: Final = 32 + 1 + MAX_IDENTIFIER_LENGTH
UserId = Annotated[
    str, Path(max_length=LONGEST_USER_ID, description="The id of a person, as tokens say it.")
]


async def person_of(who: Principal, services: Services) -> PersonAnswer:
    """Return *who* as an answer's member.

    A session cookie holds no name or picture; of people of our own they are looked up.
    """
    if who.credential == "cookie" and who.issuer == services.embedded.issuer.name:
        who = await _as_known(who, services)
    return PersonAnswer(
        id=who.user_id,
        email=who.email,
        name=who.name,
        picture=who.picture,
        email_verified=who.email_verified,
        issuer=who.issuer,
        session_id=who.session_id,
    )


async def _as_known(who: Principal, services: Services) -> Principal:
    (users,) = await services.db.fetch_all(AUTH, accounts.by_id(UUID(who.subject)))
    if not users:
        return who
    said = users[0].user_metadata
    return replace(
        who,
        name=shown_text(said.get("full_name")) or shown_text(said.get("name")),
        picture=shown_text(said.get("avatar_url")) or shown_text(said.get("picture")),
    )
