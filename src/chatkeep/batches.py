"""How many are ended or erased at a time: a few, again and again, until it is all done.

Too many at once take longer than a statement may, and nothing of that is done: tried again in
the same way it would never be. Much is left where servers stood still, or were busy for long.

A row is a row, and goes with a fixed number of others (`in_turns`). A conversation has one
message or a hundred thousand, and nobody knows before it is gone: as many go as take a moment
(`Batch`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_AT_A_TIME: Final = 1000
_MOMENT_S: Final = 0.5
_FEWER: Final = 8


async def in_turns(turn: Callable[[int], Awaitable[int]]) -> int:
    """Let *turn* do a few, again and again until there are no more; return how many it did.

    It is given how many it may do, and returns how many it did; fewer were the last. Each is a
    transaction of its own, so that nobody waits for long and an interruption loses nothing.

    A statement that passes over rows that others have locked finds its few in a `with` part
    that is materialized. Inside `in (...)` PostgreSQL looks for them again for each row of a
    table that it takes for small, finds others than those it has just deleted, and does all.
    """
    total = 0
    while (done := await turn(_AT_A_TIME)) >= _AT_A_TIME:
        total += done
    return total + done


class Batch:
    """How many come next, the *size*. It begins with one: the first may be the largest."""

    __slots__ = ("_most", "size")

    def __init__(self, *, most: int) -> None:
        """Never take more than *most*."""
        self.size = 1
        self._most = most

    def took(self, seconds: float) -> None:
        """Take note that the last one took *seconds*."""
        fits = int(self.size * _MOMENT_S / max(seconds, 0.001))
        self.size = max(1, min(self._most, 2 * self.size, fits))

    def was_too_large(self) -> bool:
        """Take fewer, because the last one did not end in time; return whether that is possible."""
        before, self.size = self.size, max(1, self.size // _FEWER)
        return self.size < before
