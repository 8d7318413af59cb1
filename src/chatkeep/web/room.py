"""Memory that clients take up by being slow: bounded for all of them together.

An answer stays in memory until its reader has it, and a body until all of it is here; whoever
is slow enough can have many of them. When all together are too much, those end who have taken
up room longest: who is as fast as anybody has gone by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Room:
    """How much is there for whom. Share one per process."""

    def __init__(self, most_bytes: int, *, little_bytes: int) -> None:
        """Let clients take up *most_bytes* together; nobody ends for less than *little_bytes*."""
        self._most = most_bytes
        self._little = little_bytes
        self._taken: dict[object, tuple[int, Callable[[], None]]] = {}
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
        before, _ = self._taken.get(who, (0, end))
        # In its old place, if it had one: whoever sends a byte now and then becomes no younger.
        self._taken[who] = size, end
        self._total += size - before
        while self._total > self._most and len(self._taken) > 1:
            longest, (_, end_longest) = next(iter(self._taken.items()))
            self.leave(longest)
            end_longest()

    def leave(self, who: object) -> None:
        """Note that *who* takes up nothing any more."""
        if who in self._taken:
            size, _ = self._taken.pop(who)
            self._total -= size
