"""The audit log: who did what to which account or session, from where, and what came of it.

Entries are only ever added. One that belongs to a change goes into its transaction
(`entry`), so that there is neither a change without its entry nor the reverse; what was
refused has no change to go with and is written by itself (`record`). Never a token, a
password, or what somebody said.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from chatkeep.db import AUTH, Query
from chatkeep.devices import device_name
from chatkeep.request_origin import request_origin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from chatkeep.db import Database

Outcome = Literal["succeeded", "refused"]


@dataclass(frozen=True, slots=True)
class Written:
    """The number of an entry."""

    number: int


def entry(
    action: str,
    *,
    outcome: Outcome = "succeeded",
    reason: str | None = None,
    user_id: str | None = None,
    actor: str | None = None,
    issuer: str | None = None,
    session_id: UUID | str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Query[Written]:
    """Return the statement that adds an entry; it runs as `AUTH`.

    *action* is a noun and what happened to it, such as "session.begun" or "user.banned".
    *reason* is a stable code that says why it was refused, or why it was done. *user_id* is
    whom it is about, *actor* who did it if that is somebody else: a user id, "secret_key" or
    "operator". *details* holds nothing secret.
    """
    origin = request_origin.get()
    return Query(
        "insert into chatkeep.audit_log (action, outcome, reason, user_id, actor, issuer,"
        " session_id, request_id, address, device, details)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s::inet, %s, %s::jsonb) returning number",
        (
            *(action, outcome, reason, user_id, actor or user_id, issuer),
            str(session_id) if session_id is not None else None,
            *(origin.request_id, _address(origin.address)),
            device_name(origin.user_agent or ""),
            msgspec.json.encode(details or {}).decode(),
        ),
        Written,
    )


async def record(db: Database, written: Query[Written]) -> None:
    """Add an entry by itself, for what was refused."""
    await db.fetch_all(AUTH, written)


def _address(text: str | None) -> str | None:
    try:
        return str(ip_address(text)) if text else None
    except ValueError:
        return None
