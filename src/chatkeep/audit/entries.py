"""How an entry is written: with the change it belongs to, or by itself."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal, LiteralString, TypeVar

import msgspec
from psycopg.rows import class_row

from chatkeep.db import AUTH, Query
from chatkeep.devices import device_name
from chatkeep.metrics import Counter
from chatkeep.request_origin import request_origin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.db import Database
    from chatkeep.request_origin import RequestOrigin

Outcome = Literal["succeeded", "refused"]
_Row = TypeVar("_Row")

_WRITTEN = Counter(
    "chatkeep_audit_entries_total",
    "Entries of the audit log; not those that go with a change of sessions or API keys.",
    "action",
    "outcome",
)
_INTO: LiteralString = (
    "insert into chatkeep.audit_log (action, outcome, reason, user_id, actor, issuer,"
    " session_id, request_id, address, device, details)"
)


@dataclass(frozen=True, slots=True)
class Written:
    """The number of an entry."""

    number: int


def entry(  # noqa: PLR0913 -- the columns of an entry, each by its name
    action: str,
    *,
    outcome: Outcome = "succeeded",
    reason: str | None = None,
    user_id: str | None = None,
    actor: str | None = None,
    issuer: str | None = None,
    session_id: UUID | str | None = None,
    details: Mapping[str, Any] | None = None,
    origin: RequestOrigin | None = None,
) -> Query[Written]:
    """Return the statement that adds an entry; it runs as `AUTH`.

    *action* is a noun and what happened to it, such as "session.begun" or "user.banned", and
    stands in `docs/reference/audit.md`. *reason* is a stable code that says why it was
    refused, or why it was done. *user_id* is whom it is about, *actor* who did it if that is
    somebody else: a user id, "secret_key" or "operator". *details* holds nothing secret.
    *origin* is where it comes from, if that is not the request at hand.
    """
    origin = origin or request_origin.get()
    _WRITTEN.add(action, outcome)
    return Query(
        _INTO + " values (%s, %s, %s, %s, %s, %s, %s, %s, %s::inet, %s, %s::jsonb)"
        " returning number",
        (
            *(action, outcome, reason, user_id, actor or user_id, issuer),
            str(session_id) if session_id is not None else None,
            *_where(origin, details),
        ),
        Written,
    )


def of_change(
    change: Query[_Row],
    action: str,
    *,
    outcome: Outcome = "succeeded",
    reason: str | None = None,
    actor: str | None = None,
    details: Mapping[str, Any] | None = None,
    keep: LiteralString = "id",
) -> Query[_Row]:
    """Return *change* as one statement that adds an entry for each session it changed.

    *change* returns `id`, `user_id` and `issuer` of those sessions, of which the columns
    *keep* are left. Without *actor* the person did it. For changes that may find nothing to
    do: no row, no entry; so nothing is counted, because nobody knows here.
    """
    return Query(
        "with changed as ("  # noqa: S608 -- of literals: that of *change*, and of this file
        + change.text
        + "), noted as ("
        + _INTO
        + " select %s::text, %s::text,"
        " %s::text, user_id, coalesce(%s::text, user_id), issuer, id::text, %s::text, %s::inet,"
        " %s::text, %s::jsonb from changed) select " + keep + " from changed",
        (
            *change.params,
            *(action, outcome, reason, actor),
            *_where(request_origin.get(), details),
        ),
        change.row,
    )


async def record(db: Database, written: Query[Written]) -> None:
    """Add an entry by itself, for what was refused."""
    await db.fetch_all(AUTH, written)


async def write(connection: AsyncConnection, written: Query[_Row]) -> list[_Row]:
    """Run what `entry` or `of_change` made in the caller's transaction, which acts as `AUTH`."""
    cursor = connection.cursor(row_factory=class_row(written.row), binary=True)
    await cursor.execute(written.text, written.params)
    return await cursor.fetchall()


def _where(origin: RequestOrigin, details: Mapping[str, Any] | None) -> tuple[str | None, ...]:
    return (
        origin.request_id,
        _address(origin.address),
        device_name(origin.user_agent or ""),
        msgspec.json.encode(details or {}).decode(),
    )


def _address(text: str | None) -> str | None:
    try:
        return str(ip_address(text)) if text else None
    except ValueError:
        return None
