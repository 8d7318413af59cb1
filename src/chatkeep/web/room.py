"""A bound on the memory that slow clients take up together.

An answer stays in memory until its reader has it, and a request body until all of it has
arrived, so clients that are slow on purpose could hold any amount of both. When all of them
together exceed the bound, those go first whose last growth of some size was longest ago:
clients at an ordinary speed have finished by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class _Taken:
    """How much a client takes up, and how much it was when it got its place in the queue."""

    size: int
    placed_at: int
    end: Callable[[], None]


class Room:
    """The memory that slow clients share. One per process and kind of buffer."""

    def __init__(self, most_bytes: int, *, little_bytes: int) -> None:
        """Bound all clients by *most_bytes*; one with less than *little_bytes* is left alone."""
        self._most = most_bytes
        self._little = little_bytes
        self._taken: dict[object, _Taken] = {}
        self._total = 0

    @property
    def taken(self) -> int:
        """How many bytes are taken up now."""
        return self._total

    def take(self, who: object, size: int, end: Callable[[], None]) -> None:
        """Note that *who* takes up *size* bytes now, and disconnect others if that is too much.

        *end* disconnects *who*, which may still `leave` afterwards.
        """
        if size < self._little:
            self.leave(who)
            return
        before = self._taken.get(who)
        if before is None or size - before.placed_at >= self._little:
            self.leave(who)
            self._taken[who] = _Taken(size, size, end)
            self._total += size
        else:  # a byte now and then makes nobody younger
            self._total += size - before.size
            before.size = size
        while self._total > self._most and len(self._taken) > 1:
            longest, taken = next(iter(self._taken.items()))
            self.leave(longest)
            taken.end()

    def leave(self, who: object) -> None:
        """Note that *who* takes up nothing any more."""
        taken = self._taken.pop(who, None)
        if taken is not None:
            self._total -= taken.size
