"""How many answers of one provider are read at once, and what that asks of each.

While they are few, each piece is taken the moment it comes. With hundreds, taking a piece
costs more than what is in it: a wake-up, an event, a frame and a write for every reader. Then
an answer that has begun to speak rests a little after each piece, so that those which come
meanwhile are taken, kept and sent as one. Nobody sees a rest of some hundredths of a second,
and a first word never waits for one.
"""

from __future__ import annotations

from typing import Final

#: Fewer than these at once do not rest.
_FEW: Final = 125
#: For each of those at once, so that all together wake up about 12,500 times a second at most.
_EACH_S: Final = 80e-6
_LONGEST_S: Final = 0.04


class Crowd:
    """The answers that are being read."""

    def __init__(self) -> None:
        """Nobody is there."""
        self._count = 0

    def enter(self) -> None:
        """One more is read."""
        self._count += 1

    def leave(self) -> None:
        """One of them has ended."""
        self._count -= 1

    @property
    def rest_s(self) -> float:
        """How long each rests between two pieces; 0: not at all."""
        if self._count < _FEW:
            return 0.0
        return min(_LONGEST_S, self._count * _EACH_S)
