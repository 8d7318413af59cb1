"""The claims of a server that declares none, and who is asked about its people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chatkeep.claims.declared import Claim, ClaimVersion, ClaimVersions, default, from_database
from chatkeep.db import AUTH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chatkeep.claims.declared import Source
    from chatkeep.db import Database
    from chatkeep.issuers import Issuer

STANDARD = ClaimVersions(
    (
        ClaimVersion(
            1,
            added=(
                Claim("userId"),
                Claim("companyId", fill=from_database(otherwise=None)),
                Claim("role", fill=from_database(otherwise="user")),
                Claim("email"),
                Claim("environment"),
                Claim("permissions", fill=from_database(otherwise=[])),
                Claim("metadata", fill=default({})),
            ),
        ),
    )
)


@dataclass(frozen=True, slots=True)
class _Row:
    id: UUID
    email: str | None
    app_metadata: dict[str, Any]


def accounts_source(db: Database, issuer: Issuer) -> Source:
    """Return who knows the people of *issuer*, our own: what operators wrote about them.

    Only `app_metadata` and the address: what people write about themselves (`user_metadata`)
    grants nothing.
    """

    async def claims_of(user_ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        subjects = {found: one for one in user_ids if (found := _subject(issuer, one))}
        rows = await db.fetch(
            AUTH,
            "select id, email, app_metadata from chatkeep.users where id = any(%s)",
            [list(subjects)],
            row=_Row,
        )
        return {subjects[row.id]: {**row.app_metadata, "email": row.email} for row in rows}

    return claims_of


def _subject(issuer: Issuer, user_id: str) -> UUID | None:
    """The account that *user_id* names, None for people of other issuers."""
    prefix = "" if issuer.primary else f"{issuer.name}:"
    try:
        found = UUID(user_id.removeprefix(prefix))
    except ValueError:
        return None
    return found if user_id == f"{prefix}{found}" else None
