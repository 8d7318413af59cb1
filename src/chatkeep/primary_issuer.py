"""Whose people have bare user ids, decided once and kept in the database.

Every other issuer's people are prefixed with its name, so that the same `sub` at two
issuers is two people. The decision outlives the configuration: re-ordering the settings
must never rename anybody.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.db import AUTH

if TYPE_CHECKING:
    from chatkeep.db import Database

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    name: str


async def settle(db: Database, wanted: str) -> str:
    """Return the primary issuer's name: the one decided earlier, else *wanted*.

    While nobody has signed up here, an earlier decision for the embedded issuer binds
    nobody and gives way to *wanted*.
    """
    (kept,) = await db.fetch(
        AUTH,
        """
        insert into chatkeep.issuers as known (name, id_prefix) values (%s, '')
        on conflict (id_prefix) do update set name = case
          when known.name = 'embedded' and not exists (select from chatkeep.users)
          then excluded.name else known.name end
        returning name
        """,
        [wanted],
        row=_Kept,
    )
    name = kept.name
    if name != wanted:
        _log.warning("user ids stay bare for %s, as decided at the first start", name)
    return name
