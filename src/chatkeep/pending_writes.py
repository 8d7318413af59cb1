"""Writes that run in the background and that several callers wait for.

What one caller has noted another may be writing already: whoever needs it written waits for
every write that has begun. A caller who is cancelled while waiting cancels no write, because
it was not theirs alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


class PendingWrites:
    """The writes that have begun and not ended."""

    def __init__(self) -> None:
        """Begin with none."""
        self._writes: set[asyncio.Task[None]] = set()

    def begin(self, write: Coroutine[Any, Any, None]) -> None:
        """Begin *write* in a task of its own."""
        begun = asyncio.create_task(write)
        self._writes.add(begun)
        begun.add_done_callback(self._has_ended)

    async def wait(self) -> None:
        """Return when every write that has begun until now has ended; raise what one raises."""
        if not self._writes:
            return
        ended, _ = await asyncio.wait(self._writes)
        for one in ended:
            one.result()

    def _has_ended(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        if not write.cancelled():
            write.exception()  # else asyncio complains where whoever waited has left
