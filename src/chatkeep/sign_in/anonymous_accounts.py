"""Accounts without an address: people who want to try first.

Such an account is reached by its session alone. Given an address it becomes a permanent one,
with the same id and so with the same chats; when its last session has ended nobody can ever
reach it again, and it is deleted together with its chats.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from chatkeep import accounts, audit
from chatkeep.administration import accounts as administration
from chatkeep.db import AUTH, Query
from chatkeep.errors import SignUpDisabled, UserNotFound
from chatkeep.ids import new_id
from chatkeep.personal_data import erasure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.devices import Device
    from chatkeep.issuance import EmbeddedIssuer, Grant

#: A session may be begun a moment after its account, and its end be noticed a moment late.
_AFTER: Final = timedelta(hours=1)
_AT_A_TIME: Final = 100
_TURNS_AT_MOST: Final = 50


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


async def sweep(issuer: EmbeddedIssuer) -> int:
    """Delete accounts that nobody can reach any more, and their chats; return how many.

    A few at a time, and what is left over the next time: where many try first, as many leave.
    """
    deleted = 0
    for _ in range(_TURNS_AT_MOST):
        turn = await _delete_some(issuer)
        deleted += turn
        if turn < _AT_A_TIME:
            break
    return deleted


async def _delete_some(issuer: EmbeddedIssuer) -> int:
    prefix = "" if issuer.issuer.primary else f"{issuer.issuer.name}:"
    found = await issuer.db.fetch(
        AUTH,
        "select u.id from chatkeep.users u where u.is_anonymous and u.password_hash is null"
        " and u.created_at < now() - %s and not exists (select from public.user_sessions s"
        " where s.user_id = %s || u.id::text and s.is_active and s.expires_at > now() - %s)"
        " and not exists (select from chatkeep.identities i where i.user_id = u.id)"
        " and not exists (select from chatkeep.webauthn_credentials w where w.user_id = u.id)"
        " order by u.id limit %s",
        (_AFTER, prefix, _AFTER, _AT_A_TIME),
        row=_Found,
    )
    for one in found:
        await erasure.erase_words(issuer.db, issuer.user_id_of(one.id))
        try:
            await administration.delete_account(issuer, one.id, actor="server")
        except UserNotFound:
            continue  # another node was quicker
    return len(found)
