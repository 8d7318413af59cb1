"""How many are erased at a time: as many as take a moment, however much each of them is.

A conversation has one message or a hundred thousand, and nobody knows before it is gone. Too
many at once take longer than a statement may, and nothing of that is done: tried again in the
same way it would never be.
"""

from __future__ import annotations

from typing import Final

_MOMENT_S: Final = 0.5
_FEWER: Final = 8


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
