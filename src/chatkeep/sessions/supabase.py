"""What a Supabase project knows of its sessions now, where its database is also ours.

Its access tokens go on verifying after somebody signed out there. Only ever reads, as
whoever the database address logs in as, and shares what it read with other requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from chatkeep.claims import Lookups
from chatkeep.db import OWN_LOGIN
from chatkeep.errors import DatabaseUnavailable, NotFound, SetupError, TokenInvalid, TokenRevoked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chatkeep.db import Database
    from chatkeep.principal import Principal


@dataclass(frozen=True, slots=True)
class _Live:
    id: str


class SupabaseSessions:
    """Looks sessions up in `auth.sessions`. Share one per process; `close` it at the end."""

    def __init__(self, db: Database) -> None:
        """Ask *db*, the project's own database."""
        self._db = db
        self._lookups = Lookups(self._live)

    async def require_readable(self) -> None:
        """Refuse a start that would let nobody in.

        Raises:
            SetupError: there is no such table here, or it may not be read.
        """
        try:
            await self._live([])
        except DatabaseUnavailable as error:
            raise SetupError(
                "SUPABASE_SESSIONS needs the table auth.sessions in the database of DATABASE_URL,"
                " and the right to read its id and not_after."
            ) from error

    async def admit(self, principal: Principal) -> Principal:
        """Return *principal*, whose token verified, if their session is there still.

        Raises:
            TokenInvalid: its session is none that could be there.
            TokenRevoked: they have signed out.
            Unavailable: the table cannot be read.
        """
        if principal.session_id is None:
            return principal
        try:
            session_id = str(UUID(principal.session_id))
        except ValueError as error:
            raise TokenInvalid from error
        if (await self._lookups.of(session_id)).row is None:
            raise TokenRevoked
        return principal

    async def close(self) -> None:
        """Stop asking."""
        await self._lookups.close()

    async def _live(self, session_ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        try:
            rows = await self._db.fetch(
                OWN_LOGIN,
                "select id::text as id from auth.sessions where id = any(%s::uuid[])"
                " and (not_after is null or not_after > now())",
                [list(session_ids)],
                row=_Live,
            )
        except NotFound as error:  # a right that is missing must not pass for a row that is
            raise DatabaseUnavailable from error
        return {row.id: {} for row in rows}
