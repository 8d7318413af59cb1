"""A time limit that does not wait for what it cancels.

`asyncio.timeout` returns only when the work that it cancelled has ended. A statement that is
cancelled on a PostgreSQL that hangs ends ten seconds later, because psycopg tries to cancel it
there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_Done = TypeVar("_Done")

#: What is still being given up, kept from being collected meanwhile.
_under_way: Final[set[asyncio.Task[Any]]] = set()


async def in_time(work: Coroutine[Any, Any, _Done], within_s: float) -> _Done:
    """Return what *work* returns, or raise what it raises, within *within_s* seconds.

    Raises:
        TimeoutError: it takes longer. It is cancelled and may go on for a while.
    """
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_forget)
    try:
        await asyncio.wait([task], timeout=within_s)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # whoever was still there has heard of it
