"""Writes that several wait for: of what one of them has noted and another is just writing.

Whoever needs it written waits for all that has begun, and whoever is cancelled while they wait
ends nothing: the write was not of theirs alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


class UnderWay:
    """The writes that have begun and not ended."""

    def __init__(self) -> None:
        """Begin with none."""
        self._writes: set[asyncio.Task[None]] = set()

    def begin(self, write: Coroutine[Any, Any, None]) -> None:
        """Begin *write*, which goes on whoever leaves."""
        begun = asyncio.create_task(write)
        self._writes.add(begun)
        begun.add_done_callback(self._has_ended)

    async def ended(self) -> None:
        """Return when all that has begun until now has ended; raises what one of it raises."""
        if not self._writes:
            return
        ended, _ = await asyncio.wait(self._writes)
        for one in ended:
            one.result()

    def _has_ended(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        if not write.cancelled():
            write.exception()  # else asyncio complains where whoever waited has left
