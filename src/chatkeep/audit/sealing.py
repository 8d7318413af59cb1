"""Keeping the chain: links new entries every few seconds, and lets old ones go."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from chatkeep.audit.chain import BATCH, seal, shared_head
from chatkeep.audit.retention import let_go
from chatkeep.audit.verifying import in_text
from chatkeep.db import ADMIN
from chatkeep.errors import ChatkeepError, SetupError
from chatkeep.outages import Outage

if TYPE_CHECKING:
    from chatkeep.db import Database

_log = logging.getLogger(__name__)

_SEAL_EVERY_S: Final = 5.0
_ROUNDS_AN_HOUR: Final = 720


async def keep_chain(db: Database, secret: bytes, *, retention_days: int | None) -> None:
    """Keep sealing until cancelled; with *retention_days* let go what is older, each hour.

    Each hour the end of the chain goes to the log, which is kept somewhere else.
    """
    rounds, complained, outage = 0, "", Outage(_log, "seal the audit log")
    while True:
        try:
            while await seal(db, secret) == BATCH:
                continue
            if rounds % _ROUNDS_AN_HOUR == 0:
                await _hourly(db, secret, retention_days)
            outage.worked()
        except SetupError as error:
            if str(error) != complained:
                _log.error("the audit log cannot be sealed: %s", error)
            complained = str(error)
        except ChatkeepError as error:
            outage.failed(error.code)
        rounds += 1
        await asyncio.sleep(_SEAL_EVERY_S)


async def _hourly(db: Database, secret: bytes, retention_days: int | None) -> None:
    if retention_days is not None:
        gone = 0
        while dropped := await let_go(db, secret, days=retention_days):
            gone += dropped
        if gone:
            _log.info("audit log: %d entries older than %d days let go", gone, retention_days)
    async with db.acting_as(ADMIN) as connection:
        head = await shared_head(connection)
    if head is not None and head.position:
        _log.info("audit log sealed", extra={"audit_head": in_text(head)})
