"""From which networks an account has signed in lately, by its rows of sessions.

Ended sessions count too: whoever signed out must be able to sign in again. Only as many of
the newest are looked at as keep the look short however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final
from uuid import UUID

from chatkeep.db import AUTH

if TYPE_CHECKING:
    from chatkeep.db import Database

_LATELY: Final = timedelta(days=90)
_LOOKED_AT: Final = 100


@dataclass(frozen=True, slots=True)
class _Verdict:
    known: bool


async def signed_in_from(db: Database, prefix: str, account: str, network: str) -> bool:
    """Whether *account* has a session of our own that began from *network*, or moved there.

    *account* is an address in its one spelling or a user's id, *prefix* what the ids of our
    own issuer's people begin with as principals. Raises Unavailable: the database is away.
    """
    try:
        ip_network(network)
    except ValueError:
        return False  # nobody knows where that came from
    (found,) = await db.fetch(
        AUTH,
        "select exists (select from chatkeep.users u cross join lateral ("
        " select address from public.user_sessions s where s.user_id = %s || u.id::text"
        " and s.created_at > now() - %s order by s.created_at desc limit %s) lately"
        " where (u.email = %s or u.id = %s) and lately.address <<= %s::inet) as known",
        (prefix, _LATELY, _LOOKED_AT, account, _id_of(account), network),
        row=_Verdict,
    )
    return found.known


def _id_of(account: str) -> UUID | None:
    try:
        return UUID(account)
    except ValueError:
        return None
