"""What clients have not taken yet of their answers: bounded for all of them together.

An answer stays in memory until its reader has it, and whoever reads slowly enough can have many
of them. When all of them together are too much, those end who have been reading longest: who
reads as fast as anybody has gone by then.
"""

from __future__ import annotations

from typing import Final, Protocol

#: Less than this is not worth ending anybody for; an open stream never has as much.
_LITTLE_BYTES: Final = 256 * 1024


class Reader(Protocol):
    """Who reads an answer."""

    def give_up(self) -> None:
        """End at once, and keep nothing."""


class Unsent:
    """How much waits for whom. Share one per process."""

    def __init__(self, most_bytes: int) -> None:
        """Let *most_bytes* wait, all readers together."""
        self._most = most_bytes
        self._waiting: dict[int, tuple[Reader, int]] = {}
        self._total = 0

    def note(self, reader: Reader, size: int) -> None:
        """Note that *size* bytes wait for *reader*; end others if that is too much."""
        self.forget(reader)
        if size < _LITTLE_BYTES:
            return
        self._waiting[id(reader)] = reader, size
        self._total += size
        while self._total > self._most and len(self._waiting) > 1:
            slowest, _ = next(iter(self._waiting.values()))
            self.forget(slowest)
            slowest.give_up()

    def forget(self, reader: Reader) -> None:
        """Note that nothing waits for *reader* any more."""
        _, size = self._waiting.pop(id(reader), (reader, 0))
        self._total -= size
