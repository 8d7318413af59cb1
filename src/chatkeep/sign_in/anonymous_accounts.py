"""Accounts without an address: people who want to try first.

Such an account is reached by its session alone. Given an address it becomes a permanent one,
with the same id and so with the same chats; when its last session has ended, and no link to
confirm an address can be followed any more, nobody can ever reach it again, and it is deleted
together with its chats.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from chatkeep import accounts, audit
from chatkeep.administration import accounts as administration
from chatkeep.db import AUTH, Query
from chatkeep.errors import DatabaseBusy, DatabaseUnavailable, SignUpDisabled, UserNotFound
from chatkeep.ids import new_id
from chatkeep.personal_data import erasure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.devices import Device
    from chatkeep.issuance import EmbeddedIssuer, Grant

_log = logging.getLogger(__name__)

#: A session may be begun a moment after its account, and its end be noticed a moment late.
_AFTER: Final = timedelta(hours=1)
_AT_A_TIME: Final = 100
_TURNS_AT_MOST: Final = 50
_BEFORE_ALL: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class _Found:
    id: UUID


async def sign_up(
    issuer: EmbeddedIssuer, metadata: Mapping[str, Any] | None, device: Device
) -> Grant:
    """Make an account without an address and sign in.

    Raises:
        SignUpDisabled.
        Invalid: the metadata would be too large.
    """
    if not issuer.sign_up_open:
        raise SignUpDisabled
    user_id, kept = UUID(new_id()), accounts.storable(metadata or {})
    creation = Query(
        "insert into chatkeep.users (id, is_anonymous, last_sign_in_at, user_metadata)"
        " values (%s, true, now(), %s::jsonb) returning id",
        (user_id, msgspec.json.encode(kept).decode()),
        _Found,
    )
    created = audit.entry(
        "user.created",
        user_id=issuer.user_id_of(user_id),
        issuer=issuer.issuer.name,
        details={"method": "anonymous"},
    )
    return await issuer.begin(user_id, "anonymous", device, first=[creation, created])


class Sweep:
    """Deletes accounts that nobody can reach any more, and their chats. One per process."""

    def __init__(self, issuer: EmbeddedIssuer) -> None:
        """Prepare to delete guests of *issuer*."""
        self._issuer = issuer
        self._behind = _BEFORE_ALL

    async def run(self) -> int:
        """Delete who has left; return how many.

        A few at a time, and what is left over the next time: where many try first, as many
        leave. It ends at the first one for whom the database takes too long: whoever holds a
        lock on them often holds it on the others too, and each would be waited for. The next
        time begins behind that one, so that they keep nobody behind them for longer.

        Raises:
            DatabaseUnavailable: it is away; who was deleted stays deleted.
        """
        deleted, after, self._behind = 0, self._behind, _BEFORE_ALL
        for _ in range(_TURNS_AT_MOST):
            found = await _unreachable(self._issuer, after)
            for one in found:
                try:
                    deleted += await _is_deleted(self._issuer, one.id)
                except DatabaseBusy:
                    _log.warning("no guest is deleted for now: %s took too long", one.id)
                    self._behind = one.id
                    return deleted
            if len(found) < _AT_A_TIME:
                break
            after = found[-1].id
        return deleted


async def _unreachable(issuer: EmbeddedIssuer, after: UUID) -> list[_Found]:
    prefix = "" if issuer.issuer.primary else f"{issuer.issuer.name}:"
    return await issuer.db.fetch(
        AUTH,
        "select u.id from chatkeep.users u where u.is_anonymous and u.password_hash is null"
        " and u.created_at < now() - %s and not exists (select from public.user_sessions s"
        " where s.user_id = %s || u.id::text and s.is_active and s.expires_at > now() - %s)"
        " and not exists (select from chatkeep.identities i where i.user_id = u.id)"
        " and not exists (select from chatkeep.webauthn_credentials w where w.user_id = u.id)"
        # Who gave an address and signed out comes back by the link that was sent there.
        " and not exists (select from chatkeep.one_time_tokens t"
        "  where t.user_id = u.id and t.expires_at > now())"
        " and u.id > %s order by u.id limit %s",
        (_AFTER, prefix, _AFTER, after, _AT_A_TIME),
        row=_Found,
    )


async def _is_deleted(issuer: EmbeddedIssuer, person: UUID) -> bool:
    """Delete one; whoever cannot be is told in the log, and keeps nobody behind them."""
    try:
        await erasure.erase_words(issuer.db, issuer.user_id_of(person))
        await administration.delete_account(issuer, person, actor="server")
    except (DatabaseBusy, DatabaseUnavailable):
        raise
    except UserNotFound:
        return False  # another node was quicker
    except Exception:  # noqa: BLE001 -- whatever it was, the others must go
        _log.exception("the guest %s cannot be deleted", person)
        return False
    return True
