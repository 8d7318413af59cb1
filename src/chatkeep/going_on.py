"""Work that goes on for as long as the process: begun anew after what nobody foresaw.

A loop expects that the database is away. Whatever else is raised in it, such as a table that a
restored backup has not filled yet, would end its task, and nobody waits for that one: the
server would go on without what the loop does, and say nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

_PAUSE_S: Final = 1.0


async def go_on(work: Callable[[], Awaitable[None]], what: str) -> None:
    """Do *work* until it ends or is cancelled, and again after each fault, which is logged.

    *what* is its name in the log. It must be able to begin in the middle of what it left.
    """
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 -- whatever it was, the work must go on
            _log.exception("%s: nobody foresaw this; it begins anew", what)
            await asyncio.sleep(_PAUSE_S)
        else:
            return
