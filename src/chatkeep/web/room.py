"""Memory that clients take up by being slow: bounded for all of them together.

An answer stays in memory until its reader has it, and a body until all of it is here; whoever
is slow enough can have many of them. When all together are too much, those end who have grown
least lately, and not by little: who is as fast as anybody has gone by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class _Taken:
    """How much somebody takes up, and how much it was when they got their place in the row."""

    size: int
    placed_at: int
    end: Callable[[], None]


class Room:
    """How much is there for whom. Share one per process."""

    def __init__(self, most_bytes: int, *, little_bytes: int) -> None:
        """Let clients take up *most_bytes* together; nobody ends for less than *little_bytes*."""
        self._most = most_bytes
        self._little = little_bytes
        self._taken: dict[object, _Taken] = {}
        self._total = 0

    @property
    def taken(self) -> int:
        """How many bytes are taken up now."""
        return self._total

    def take(self, who: object, size: int, end: Callable[[], None]) -> None:
        """Note that *who* takes up *size* bytes from now on; others are ended if that is too much.

        *end* ends *who*, who may still `leave` afterwards.
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
