"""The primary issuer, whose people have user ids without a prefix: settled once, in the database.

The user ids of every other issuer's people begin with its name, so that the same `sub` at two
issuers is two people. The decision outlives the configuration: re-ordering the settings
must never rename anybody.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.db import AUTH, Query

if TYPE_CHECKING:
    from chatkeep.db import Database

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    name: str


async def settle_primary(db: Database, wanted: str) -> str:
    """Return the primary issuer's name: the one decided earlier, else *wanted*.

    While nobody has signed up here, an earlier decision for the embedded issuer binds
    nobody and gives way to *wanted*.
    """
    _, (kept,) = await db.fetch_all(
        AUTH,
        # Whatever is there already: of processes that start at the same time one decides.
        Query(
            "insert into chatkeep.issuers (name, id_prefix) values (%s, '')"
            " on conflict do nothing returning name",
            [wanted],
            _Kept,
        ),
        Query(
            "update chatkeep.issuers set name = case"
            " when name = 'embedded' and not exists (select from chatkeep.users)"
            " then %s else name end where id_prefix = '' returning name",
            [wanted],
            _Kept,
        ),
    )
    name: str = kept.name
    if name != wanted:
        _log.warning("user ids stay bare for %s, as decided at the first start", name)
    return name
